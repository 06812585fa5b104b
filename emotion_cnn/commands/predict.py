"""Find the faces in photos and videos, and what they show.

What a face shows is not what a person feels. Not for decisions about people.
(docs/model-card.md says what else this is not meant for.) No image leaves this
machine, and none is written to.

Examples of settings:
  --source photo.jpg --save images
  --source photos --output predictions
  --source @list.txt --shard 3/16 --output parts/3 --resume
  --source @list.txt --merge parts --output predictions
  --source photo.jpg --save images --explain
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotion_cnn.commands import shared
from emotion_cnn.commands.predict_job import Job, Tally, counted, showing_progress
from emotion_cnn.commands.predict_settings import PREDICTIONS_DEPEND_ON, PredictSettings
from emotion_cnn.errors import ConfigError, ModelError, RunError
from emotion_cnn.settings import from_keywords

if TYPE_CHECKING:
    import numpy as np

    from emotion_cnn.inference.classifier import Classifier
    from emotion_cnn.inference.detection import Detector
    from emotion_cnn.inference.memory import Reserve
    from emotion_cnn.inference.sources import Source

LIMITS = "What a face shows is not what a person feels. Not for decisions about people."
SETTINGS = (PredictSettings,)


def run(**keywords: Any) -> Path:
    """Predicts what the faces in images show, and writes it down.

    Args:
        **keywords: The settings of `PredictSettings`.

    Returns:
        The folder with the results.

    Raises:
        EmotionCnnError: The source, the network or the output cannot be used; or, at
            the end, an image could not be read: the others' predictions are there then.
    """
    given = from_keywords(SETTINGS, keywords)
    settings = PredictSettings(**given)
    settings.check_merge(given)
    from emotion_cnn.extras import check_installed
    from emotion_cnn.files import locked, removed_if_empty
    from emotion_cnn.inference.sources import Kind

    # Before what takes seconds, so that nobody waits for a name misspelt.
    found, sources = _find_sources(settings)
    if settings.merge is not None:
        return _merge(settings, Path(settings.merge), found)
    kinds = {each.kind for each in found}
    if Kind.VIDEO in kinds:
        check_installed("av", extra="predict")
    with removed_if_empty(_output_folder(settings)) as folder:
        from emotion_cnn.inference.analysis import Analyzer
        from emotion_cnn.inference.predictions import Predictions, written
        from emotion_cnn.inference.saving import Saver

        # First: a package may be missing, and a network takes seconds to load.
        detector = _make_detector(settings)
        classifier = _load_classifier(settings)
        explain = _explain_method(settings, classifier)
        analyzer = Analyzer(
            classifier,
            detector,
            labels=settings.labels,
            tta=settings.tta,
            unsure_below=settings.unsure_below,
        )
        if explain is not None:
            _check_explained(classifier, explain, settings)
        depends_on = {name: getattr(settings, name) for name in PREDICTIONS_DEPEND_ON}
        with (
            locked(folder, "predictions"),
            Predictions(
                folder,
                classifier.classes,
                depends_on | {"weights": classifier.weights_sha256},
                smoothed=settings.smoothing > 0
                # Of all shards, so that their tables have the same columns.
                and kinds != {Kind.IMAGE},
                resume=settings.resume,
            ) as results,
        ):
            print(LIMITS)
            if "video" in settings.saved and kinds != {Kind.IMAGE}:
                print("The annotated videos are without sound.")
            todo = [each for each in sources if written(each.name) not in results.done]
            if done := len(sources) - len(todo):
                print(f"{done:,} of {len(sources):,} sources are done already.")
            saver = Saver(
                folder,
                settings.saved,
                explain=explain,
                emotion=settings.explain_class,
            )
            # What could not be read to its end is done, and a failure all the same.
            tally = Tally(failed=results.failed)
            job = Job(settings, folder, analyzer, results, saver, tally)
            with job.kept_whatever_happens():
                _predict(job, todo)
                results.finish()
    if saver.left_out:
        print(f"{counted(saver.left_out, 'face')} more than a contact sheet can show.")
    print(f"{job.tally}\nResults: {folder}")
    job.tally.raise_for_failures(folder)
    return folder


def _merge(settings: PredictSettings, parts: Path, sources: "Sequence[Source]") -> Path:
    """Puts the tables of all shards together."""
    from emotion_cnn.files import removed_if_empty, shown
    from emotion_cnn.inference.merging import merge_predictions

    tally = Tally()
    with removed_if_empty(_output_folder(settings)) as folder:
        errors = merge_predictions(parts, [each.name for each in sources], folder)
    for name, reason in errors.items():
        tally.fail(f"{shown(name)}: {shown(reason)}")
    print(f"{counted(len(sources), 'source')}.\nResults: {folder}")
    tally.raise_for_failures(folder)
    return folder


def _predict(job: Job, sources: Sequence["Source"]) -> None:
    """Predicts sources in their order."""
    from emotion_cnn.inference.sources import Kind

    with showing_progress(len(sources)) as advance:
        for kind, group in groupby(sources, key=lambda each: each.kind):
            if kind is Kind.IMAGE:
                _predict_images(job, group, advance)
            else:
                # Not at the top: images need none of it.
                from emotion_cnn.commands.predict_videos import predict_video

                for source in group:
                    predict_video(job, source)
                    advance()


def _predict_images(job: Job, sources: Iterable["Source"], advance: Any) -> None:
    """Predicts images, several at a time."""
    from emotion_cnn.files import shown
    from emotion_cnn.inference.annotation import describe_all

    for found in job.analyzer.analyze_many(
        sources, _read_photo, keep_photos=job.saver.needs_photos
    ):
        if found.error is not None:
            job.fail(found.item, found.error)
        else:
            # First, so that what is in the tables has its images too.
            job.saver.save(found.item.name, found.faces, found.photo)
            job.results.write(found.item.name, [f.as_dict() for f in found.faces])
            job.tally.count(found.faces)
            job.say(f"{shown(found.item.name)}: {describe_all(found.faces)}")
        advance()


def _read_photo(source: "Source", reserve: "Reserve") -> "np.ndarray | str":
    from emotion_cnn.data.images import PHOTO_FILE_LIMIT, decode_photo
    from emotion_cnn.files import open_regular

    if problem := source.find_problem():
        return problem
    with open_regular(source.path) as file:
        reserve(min(os.fstat(file.fileno()).st_size, PHOTO_FILE_LIMIT))
        return decode_photo(file, reserve=reserve)


def _find_sources(settings: PredictSettings) -> "tuple[list[Source], list[Source]]":
    """Returns all sources, and those of this shard."""
    from emotion_cnn.inference.shards import WHOLE, parse_shard
    from emotion_cnn.inference.sources import find_sources

    shard = WHOLE if settings.shard is None else parse_shard(settings.shard)
    sources = find_sources(
        str(settings.source),
        pattern=settings.pattern,
        standard_input=getattr(sys.stdin, "buffer", None),
    )
    return sources, list(shard.of(sources))


def _output_folder(settings: PredictSettings) -> Path:
    from emotion_cnn.files import create_folder, first_line, make_folder, open_output

    if settings.output is None:
        name = f"{datetime.now():%Y%m%d-%H%M%S}-predict"
        return create_folder(Path(settings.runs), name, setting="runs")
    folder = Path(settings.output)
    with contextlib.suppress(OSError):
        if folder.samefile(str(settings.source)):
            raise ConfigError(
                "Expected another folder for the results than the one to predict; "
                f"found `output={folder}` for both. A folder in it will do."
            )
    if not settings.resume:
        return open_output(folder)
    try:
        make_folder(folder)
    except OSError as error:
        raise RunError(
            f"Expected a folder to write results to, but {folder} cannot be used: "
            f"{first_line(error)}. Choose another with `output`."
        ) from error
    return folder


def _load_classifier(settings: PredictSettings) -> "Classifier":
    classifier = shared.load_classifier(
        weights=settings.weights,
        runs=settings.runs,
        backend=settings.backend,
        class_order=settings.class_order,
        input_range=settings.input_range,
        explains=settings.explain and settings.explain_method in (None, "layercam"),
    )
    name = settings.explain_class
    if name is not None and name not in classifier.classes:
        raise ConfigError(
            f"`explain_class` is one of {', '.join(classifier.classes)}; found "
            f"{name[:50]!a}."
        )
    return classifier


def _explain_method(settings: PredictSettings, classifier: "Classifier") -> str | None:
    """Returns how to explain faces; None for not."""
    if not settings.explain:
        return None
    methods = classifier.explanation_methods
    method = settings.explain_method or methods[0]
    if method not in methods:
        raise ModelError(
            f"Expected `explain_method` to be {' or '.join(methods)}, as an exported "
            f"network has no gradients; found {method}. Choose {methods[0]}, or a "
            "network of Keras with `weights`."
        )
    return method


def _check_explained(
    classifier: "Classifier", method: str, settings: PredictSettings
) -> None:
    """Raises a `ModelError` where a network cannot be explained, before any face."""
    import numpy as np

    size = classifier.input_size
    classifier.explain(
        np.full((size, size), 128, np.uint8),
        method=method,
        emotion=settings.explain_class,
        labels=settings.labels,
    )


def _make_detector(settings: PredictSettings) -> "Detector | None":
    if settings.faces == "cropped":
        return None
    from emotion_cnn.inference.detection import YuNet

    return YuNet(
        confidence=settings.confidence,
        minimum_face=settings.minimum_face,
        detection_size=settings.detection_size,
    )
