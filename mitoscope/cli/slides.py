"""The commands for regions and slides; see `mitoscope.cli.commands`."""

import argparse
from pathlib import Path

from mitoscope.cli.options import (
    Commands,
    add_command,
    add_device,
    add_out,
    add_precision,
    add_weights,
    check_unsharded,
    parse_number,
    parse_shard,
    take_options,
)
from mitoscope.launch.options import add_launcher, read_resources


def add_detect(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> None:
        from mitoscope.detect.predict import predict

        names = ("weights", "device", "precision", "mpp", "floor", "tta")
        predict(options.images, options.out, **take_options(options, *names))

    command = add_command(commands, "detect", run, "find the mitotic figures of regions or fields",
                          "Find the mitotic figures of images of tissue. Writes detections.csv (image, x_um, y_um, "
                          "x_px, y_px, p_mitosis), one GeoJSON file for QuPath for each image, and a record of how "
                          "they were made, detections.csv.json.")  # fmt: skip
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="TIFF, PNG, JPEG or MHA files")
    add_out(command, "DIR", "the folder for the results")
    add_weights(command)
    add_device(command)
    add_precision(command)
    command.add_argument("--mpp", type=parse_number, metavar="X",
                         help="µm per px of the images, such as 0.25, if their tags are missing or wrong")  # fmt: skip
    command.add_argument("--floor", type=parse_number, default=0.05, metavar="P",
                         help="least probability of a point in the result (default: %(default)s)")  # fmt: skip
    command.add_argument("--tta", action="store_true",
                         help="average over the eight orientations of each tile: eight times slower")  # fmt: skip


def add_slide(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> int:
        from mitoscope.slide.run import run_slides

        more = take_options(options, "detector", "classifier", "mpp", "region", "floor", "device", "precision",
                            "dicom_ann")  # fmt: skip
        resources = read_resources(options)
        if resources is None:
            return run_slides(options.slides, options.out, shard=options.shard, **more)
        check_unsharded(options)
        from mitoscope.launch.slides import launch_slides

        return launch_slides(options.slides, options.out, resources, **more)

    command = add_command(commands, "slide", run, "count the mitotic figures of slides, and the atypical ones",
                          "Find the tissue of slides, its mitotic figures, the hotspot of 2.37 mm2, and the atypical "
                          "figures. Writes a folder for each slide: summary.json, detections.csv, qupath.geojson, "
                          "report.html; and slides.csv. A slide that was broken off goes on. Exit code 3: a slide "
                          "failed, see slides.csv. Not for clinical use.")  # fmt: skip
    command.add_argument("slides", type=Path, nargs="+", metavar="SLIDE",
                         help="SVS, NDPI, MRXS, SCN, BIF, DICOM, TIFF, PNG, JPEG or MHA files")  # fmt: skip
    add_out(command, "DIR", "the folder for the results")
    for name in ("detector", "classifier"):
        command.add_argument(f"--{name}", type=Path, metavar="DIR",
                             help=f"the folder of the {name}'s weights (default: those that come with "
                                  "mitoscope)")  # fmt: skip
    add_device(command)
    add_precision(command)
    command.add_argument("--mpp", type=parse_number, metavar="X",
                         help="µm per px of the slides, such as 0.25, if it is missing in them or wrong")  # fmt: skip
    command.add_argument("--region", type=Path, metavar="FILE",
                         help="GeoJSON with the outline of the tissue, such as an annotation of QuPath; the tissue is "
                              "then not looked for")  # fmt: skip
    command.add_argument("--floor", type=parse_number, metavar="P",
                         help="least probability of a point in the result; each is classified, so that a lower one "
                              "takes longer (default: the detector's threshold less .1)")  # fmt: skip
    command.add_argument("--dicom-ann", action="store_true",
                         help="write annotations.dcm, too: DICOM annotations of a DICOM slide (needs "
                              "mitoscope[dicom])")  # fmt: skip
    command.add_argument("--shard", type=parse_shard, default=(1, 1), metavar="i/N",
                         help="only the i-th of N parts of the slides; run all parts, then once without")  # fmt: skip
    add_launcher(command, "a slide")
