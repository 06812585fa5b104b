"""How much a page may ask for; what is beyond is refused before it is read."""

from emotion_cnn.data.images import PHOTO_FILE_LIMIT

PHOTO_BYTES = PHOTO_FILE_LIMIT
"""Largest photo, as `predict` reads it."""

FRAME_BYTES = 2**20
"""Largest frame of a camera or a video; at 1280x720 a JPEG has 50 to 300 kB."""

FRAME_MEGAPIXELS = 4
"""Largest frame, decoded: a megabyte of JPEG can hold 200."""

LONGEST_TEXT = 2_000
"""Most characters of a message that is text."""

LONGEST_NAME = 255
"""Most characters of a file's name."""

MESSAGES_PER_SECOND = 240
"""Most messages a second of one connection; a page sends up to 30."""

MOST_CONNECTIONS = 32
"""Most pages that send frames at a time."""

MOST_TRACKS = 1_000_000_000
"""Greatest number of a face that is followed."""

MOST_WAITING = 16
"""Most photos and heat maps that wait for their turn."""

MOST_UNREAD = 2**22
"""Most bytes that wait for a page that still sends, but does not read."""

SECONDS_TO_ASK = 10
"""How long a connection may take to ask for something."""

SECONDS_TO_READ = 10
"""How long an answer waits for a page that does not read."""

SECONDS_TO_SEND = 30
"""How long a photo may take to arrive, as the others wait for their turn meanwhile."""
