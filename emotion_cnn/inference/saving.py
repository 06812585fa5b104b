"""What is saved of predictions for people to look at: images, crops, contact sheets."""

import hashlib
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from emotion_cnn.files import make_folder, replacing
from emotion_cnn.inference.analysis import Face
from emotion_cnn.inference.annotation import ContactSheet, annotate

_NOT_IN_NAMES = re.compile(r"[^\w-]+")
_NAME_LENGTH = 50
_QUALITY = 90


class Saver:
    """Saves annotated photos, the faces and contact sheets of them, as asked for.

    Attributes:
        needs_photos: Whether `save` needs the photos.
    """

    def __init__(
        self,
        folder: Path,
        names: Collection[str],
        *,
        explain: str | None = None,
        emotion: str | None = None,
    ) -> None:
        """Makes the folders.

        Args:
            folder: Where to save; an existing folder.
            names: What to save: `images`, `faces`, `sheet`.
            explain: How to explain the faces, as for `Face.explain`; None for not.
            emotion: The class to explain; None for the most probable of each face.

        Raises:
            OSError: A folder cannot be made.
        """
        self.needs_photos = "images" in names
        self._images, self._faces = folder / "images", folder / "faces"
        self._saves_faces = "faces" in names
        self._sheet = ContactSheet(folder) if "sheet" in names else None
        self._explain, self._emotion = explain, emotion
        if self.needs_photos:
            make_folder(self._images)
        if self._saves_faces:
            make_folder(self._faces)

    def save(
        self, source: str, faces: Sequence[Face], photo: np.ndarray | None
    ) -> None:
        """Saves what is asked for of a photo.

        Args:
            source: Its name.
            faces: Its faces.
            photo: The photo, uint8 RGB; None unless `needs_photos`.

        Raises:
            OSError: Something cannot be written; names the file.
        """
        maps = None
        if photo is not None or self._sheet:
            maps = self.explained(faces)
        self._save_files(file_name(source), faces, photo, maps)
        if not faces:
            self.add_without_face()
        for number, face in enumerate(faces, start=1):
            caption = source if len(faces) == 1 else f"{source}, face {number}"
            self.add_to_sheet(face, caption, None if maps is None else maps[number - 1])

    def save_frame(
        self,
        source: str,
        number: int,
        faces: Sequence[Face],
        image: np.ndarray,
        maps: Sequence[np.ndarray] | None,
    ) -> None:
        """Saves what is asked for of a frame of a video, but for the contact sheet.

        Args:
            source: Name of the video.
            number: The frame's number.
            faces: The frame's faces.
            image: The frame, uint8 RGB.
            maps: What `explained` returns of the faces; used if `needs_photos`.

        Raises:
            OSError: Something cannot be written; names the file.
        """
        photo = image if self.needs_photos else None
        self._save_files(f"{file_name(source)}-{number:06}", faces, photo, maps)

    def add_to_sheet(
        self, face: Face, caption: str, relevance: np.ndarray | None = None
    ) -> None:
        """Adds a face to the contact sheet, if there is one.

        Args:
            face: The face.
            caption: Where it is from.
            relevance: Its explanation, if there is one already.

        Raises:
            OSError: A page cannot be written.
        """
        if self._sheet:
            if relevance is None and self._explain is not None:
                relevance = self._explained(face, self._explain)
            self._sheet.add(face, caption, relevance)

    def add_without_face(self) -> None:
        """Counts a source without a face on the contact sheet, if there is one."""
        if self._sheet:
            self._sheet.add_without_face()

    def explained(self, faces: Sequence[Face]) -> list[np.ndarray] | None:
        """Returns the explanation of each face, uint8 RGB; None if none is wanted."""
        if self._explain is None:
            return None
        return [self._explained(face, self._explain) for face in faces]

    def _save_files(
        self,
        name: str,
        faces: Sequence[Face],
        photo: np.ndarray | None,
        maps: Sequence[np.ndarray] | None,
    ) -> None:
        if photo is not None:
            image = annotate(photo, faces, maps=maps)
            with replacing(self._images / f"{name}.jpg") as temporary:
                image.save(temporary, "JPEG", quality=_QUALITY)
        for number, face in enumerate(faces, start=1):
            if self._saves_faces:
                with replacing(self._faces / f"{name}-{number}.png") as temporary:
                    Image.fromarray(face.image).save(temporary, "PNG")

    @property
    def left_out(self) -> int:
        """How many faces are not on the contact sheet, as there were too many."""
        return self._sheet.left_out if self._sheet else 0

    def close(self) -> None:
        """Writes the rest of the contact sheet.

        Raises:
            OSError: It cannot be written.
        """
        if self._sheet:
            self._sheet.close()

    def _explained(self, face: Face, method: str) -> np.ndarray:
        # Not at the top: it imports Keras.
        from emotion_cnn.inference.explanation import heat_map

        return heat_map(face.image, face.explain(method, self._emotion))


def file_name(source: str) -> str:
    """Returns what the names of all files begin with that are saved of a source.

    It is the source's own, and ten digits of the SHA-256 of its whole path, so that no
    two sources write the same files.
    """
    stem = _NOT_IN_NAMES.sub("_", Path(source).stem)[:_NAME_LENGTH]
    return f"{stem}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:10]}"
