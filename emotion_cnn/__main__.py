"""`python -m emotion_cnn`: the same as the command `emotion-cnn`."""

import sys

from emotion_cnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
