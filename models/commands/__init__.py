"""Subcommands of `python -m models`: one file each, with add_parser(subparsers) and run(arguments)."""
