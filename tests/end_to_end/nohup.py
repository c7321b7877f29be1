"""The server as `nohup` starts it."""

import signal
import sys

from server.__main__ import main

if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(main())
