"""Entry point: `python main.py --mode train`, `python main.py --mode evaluate`."""

import sys

from emotion_cnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
