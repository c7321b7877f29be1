"""Images that are made to cost much: what each costs, and what small images beside them wait."""
