"""One function a command: its options, and what it calls. A command imports nothing that another one needs."""

import argparse
from pathlib import Path

from mitoscope.cli.options import (
    Commands,
    add_command,
    add_crops,
    add_labels,
    add_model,
    add_out,
    add_seed,
    add_truth,
    add_weights,
    check_together,
    check_unsharded,
    get_labels,
    parse_number,
    parse_positive,
    parse_shard,
    take_options,
)
from mitoscope.cli.selftest import add_selftest
from mitoscope.cli.slides import add_detect, add_slide
from mitoscope.errors import DataError
from mitoscope.launch.options import add_launcher, read_resources

N_JOBS = 8  # parts of a prediction on a cluster


def add_classify(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> int:
        from mitoscope.classify.predict import predict

        names = ("weights", "base", "device", "precision", "prevalence", "batch_size", "strict")
        more, resources = take_options(options, *names), read_resources(options)
        if resources is None:
            check_together(options, "--launcher local", without=("--jobs",))
            return predict(options.crops, options.out, shard=options.shard, **more)
        check_unsharded(options)
        from mitoscope.launch.crops import launch_crops

        return launch_crops(options.crops, options.out, resources, options.jobs or N_JOBS, **more)

    command = add_command(commands, "classify", run, "write P(atypical) and a class for each crop to a CSV",
                   "Classify crops of mitotic figures as normal or atypical. Writes predictions.csv (image_id, "
                   "p_atypical, class, one column for each network) and a record of how it was made, "
                   "predictions.csv.json. Exit code 3: some files cannot be read.")  # fmt: skip
    add_crops(command)
    add_out(command, "FILE", "the CSV to write; replaced if it exists")
    add_model(command)
    command.add_argument("--prevalence", type=parse_number, metavar="S",
                         help="share of atypical figures where the crops come from, such as 0.15, if it is known: the "
                              "probabilities then hold for it; classes do not change")  # fmt: skip
    command.add_argument("--shard", type=parse_shard, default=(1, 1), metavar="i/N",
                         help="classify only the i-th of N parts; join them with 'mitoscope merge'")  # fmt: skip
    command.add_argument("--batch-size", type=parse_positive, default=256, metavar="N",
                         help="crops in memory at once; does not change the result (default: %(default)s)")  # fmt: skip
    command.add_argument("--strict", action=argparse.BooleanOptionalAction, default=True,
                         help="write nothing if a crop cannot be read; --no-strict: classify the others")  # fmt: skip
    add_launcher(command, "a part")
    command.add_argument("--jobs", type=parse_positive, metavar="N",
                         help="with --launcher slurm: the parts, each a job, merged at the end (default: "
                              f"{N_JOBS})")  # fmt: skip


def add_merge(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> int:
        from mitoscope.classify.shards import merge

        return merge(options.shards, options.out)

    command = add_command(commands, "merge", run, "join the parts that 'classify --shard' wrote",
                   "Join the parts that 'classify --shard' wrote. The result is the same file as without "
                   "--shard.")  # fmt: skip
    command.add_argument("shards", type=Path, nargs="+", metavar="CSV", help="all parts, in any order")
    add_out(command, "FILE", "the CSV to write; replaced if it exists")


def add_evaluate(commands: Commands) -> None:
    command = add_command(commands, "evaluate", _evaluate, "compare predictions with labels: metrics, pictures",
                   "Compare predictions with labels, or detections with the truth. Writes metrics.json (as the "
                   "challenge does), figures.json (all metrics with 95 % intervals), summary.md and "
                   "pictures.")  # fmt: skip
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--predictions", type=Path, metavar="CSV", help="written by 'classify'; needs --labels")
    what.add_argument("--detections", type=Path, metavar="CSV", help="found mitotic figures; needs --truth")
    what.add_argument("--predictions-json", type=Path, metavar="JSON",
                      help="the challenge platform's predictions.json of either track; needs "
                           "--ground-truth")  # fmt: skip
    add_labels(command)
    add_truth(command)
    command.add_argument("--ground-truth", type=Path, metavar="JSON", help="the platform's ground_truth.json")
    command.add_argument("--threshold", type=float, metavar="T",
                         help="call a crop atypical, or a point a mitotic figure, from this probability on, instead of "
                              "the classes in the file or the threshold in its record")  # fmt: skip
    add_seed(command)
    add_out(command, "DIR", "the folder for the results")


def _evaluate(options: argparse.Namespace) -> None:
    if options.predictions is not None:
        check_together(options, "--predictions", "--labels", without=("--ground-truth", "--truth", "--mpp"))
        from mitoscope.scoring.evaluate import evaluate
        from mitoscope.scoring.labels import parse_labels

        labels = parse_labels(options.labels)
        summary = evaluate(options.predictions, labels, options.out, options.threshold, options.seed)
    elif options.detections is not None:
        check_together(options, "--detections", "--truth", without=("--labels", "--ground-truth"))
        from mitoscope.scoring.detection.evaluate import evaluate_detections

        more = take_options(options, "threshold", "mpp", "seed")
        summary = evaluate_detections(options.detections, options.truth, options.out, **more)
    else:
        check_together(
            options, "--predictions-json", "--ground-truth", without=("--labels", "--truth", "--mpp", "--threshold")
        )
        summary = _evaluate_platform(options.predictions_json, options.ground_truth, options.out, options.seed)
    print(summary)
    print(f"wrote {options.out}")


def _evaluate_platform(predictions_json: Path, ground_truth_json: Path, out: Path, seed: int) -> str:
    """Evaluate the platform's files; the ground truth shows whether they are of Track 1 or 2."""
    from mitoscope.scoring.detection.evaluate import evaluate_regions
    from mitoscope.scoring.detection.platform import is_track_1
    from mitoscope.scoring.evaluate import evaluate_platform

    run = evaluate_regions if is_track_1(ground_truth_json) else evaluate_platform
    return run(predictions_json, ground_truth_json, out, seed)


def add_compare(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> None:
        first, second = options.predictions
        if options.truth is not None:
            check_together(options, "--truth", without=("--labels",))
            from mitoscope.scoring.detection.compare import compare_detections

            thresholds = tuple(options.thresholds or (None, None))
            more = take_options(options, "mpp", "seed")
            print(compare_detections(first, second, options.truth, options.out, thresholds=thresholds, **more))
        else:
            if options.labels is None:
                raise DataError("compare needs --labels or --truth", got="none", expected="one", remedy="add it")
            check_together(options, "--labels", without=("--mpp", "--thresholds"))
            from mitoscope.scoring.labels import parse_labels
            from mitoscope.scoring.metrics.paired import compare

            print(compare(first, second, parse_labels(options.labels), options.out, options.seed))
        print(f"wrote {options.out}")

    command = add_command(commands, "compare", run, "test whether one prediction is better than another",
                   "Compare two predictions of the same crops (with --labels), or two detectors on the same images "
                   "(with --truth): differences of the metrics with 95 % intervals and p-values.")  # fmt: skip
    command.add_argument("predictions", type=Path, nargs=2, metavar="CSV",
                         help="two files that 'classify' wrote, or two detections.csv")  # fmt: skip
    add_labels(command)
    add_truth(command)
    command.add_argument("--thresholds", type=float, nargs=2, metavar="T",
                         help="call a point a mitotic figure from this probability on: the first file's, the "
                              "second's")  # fmt: skip
    add_seed(command)
    add_out(command, "DIR", "the folder for the results")


def add_report(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> None:
        if options.detections is not None:
            check_together(options, "--detections", "--images", without=("--crops", "--labels", "--weights", "--base"))
            from mitoscope.scoring.report.detections import report_detections

            more = take_options(options, "truth", "threshold", "mpp", "zoom_mpp")
            report_detections(options.detections, options.images, options.out, **more)
            print(f"wrote {options.out}")
            return
        check_together(options, "--predictions", "--crops", without=("--images", "--truth", "--threshold", "--mpp"))
        from mitoscope.scoring.report.build import report

        more = take_options(options, "weights", "base", "device", "saliency")
        report(options.predictions, options.crops, options.out, labels=get_labels(options), **more)
        print(f"wrote {options.out}")

    command = add_command(commands, "report", run, "write a web page with the metrics and every crop",
                   "Write one HTML file with metrics, plots and every crop; or, of a detector, with what was found, "
                   "missed and wrong, and the images to zoom into. It needs no network.")  # fmt: skip
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--predictions", type=Path, metavar="CSV", help="written by 'classify'")
    source.add_argument("--detections", type=Path, metavar="CSV", help="written by 'detect'")
    add_crops(command, required=False)
    add_labels(command)
    command.add_argument("--images", type=Path, nargs="+", metavar="PATH",
                         help="with --detections: the images, files or folders")  # fmt: skip
    add_truth(command)
    command.add_argument("--threshold", type=parse_number, metavar="T",
                         help="with --detections: call a point a mitotic figure from this probability on (default: "
                              "that of the record beside the detections)")  # fmt: skip
    command.add_argument("--zoom-mpp", type=parse_number, default=0.5, metavar="X",
                         help="with --detections: µm per pixel of the images in the page (default: %(default)s; at "
                              "0.25 the page is four times as large)")  # fmt: skip
    add_out(command, "FILE", "the HTML file to write; replaced if it exists")
    add_model(command, precision=False)
    command.add_argument("--saliency", action=argparse.BooleanOptionalAction, default=True,
                         help="show for each crop where the networks look (Grad-CAM, the slowest part)")  # fmt: skip


def add_stress(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> None:
        from mitoscope.scoring.stress import stress

        more = take_options(options, "weights", "base", "device", "precision")
        print(stress(options.crops, options.out, labels=get_labels(options), **more))
        print(f"wrote {options.out}")

    command = add_command(commands, "stress", run, "measure how much changes of the images change the result",
                   "Classify crops as they are, and with stain, blur, compression, position and rotation changed. "
                   "Writes how far the probabilities move.")  # fmt: skip
    add_crops(command)
    add_labels(command)
    add_model(command)
    add_out(command, "DIR", "the folder for the results")


def add_check(commands: Commands) -> None:
    def run(options: argparse.Namespace) -> int:
        if options.region is not None:
            check_together(options, "--region", without=("--expected",))
            from mitoscope.scoring.detection.points import check_points

            return check_points(options.output_json, options.region, weights=options.weights)
        from mitoscope.scoring.check import check

        more = take_options(options, "weights", "expected", "tolerance", "class_margin")
        return check(options.output_json, options.stack, **more)

    command = add_command(commands, "check", run, "check a container's output against the rules of the platform",
                   "Check the JSON that a container wrote against the rules of the challenge platform. Prints ok, or "
                   "one line for each fault.")  # fmt: skip
    command.add_argument("output_json", type=Path, metavar="OUTPUT_JSON", help="what the container wrote")
    image = command.add_mutually_exclusive_group(required=True)
    image.add_argument("--stack", type=Path, metavar="FILE", help="the crops that were classified: a TIFF or MHA file")
    image.add_argument("--region", type=Path, metavar="FILE",
                       help="the region in which figures were detected: a TIFF or MHA file")  # fmt: skip
    add_weights(command)
    command.add_argument("--expected", type=Path, metavar="JSON", help="the expected output, to compare with")
    command.add_argument("--tolerance", type=float, default=1e-4, metavar="D",
                         help="largest difference from an expected confidence (default: %(default)s)")  # fmt: skip
    command.add_argument("--class-margin", type=float, default=0.0, metavar="D",
                         help="allow another class where the expected confidence is this close to the threshold "
                              "(default: %(default)s)")  # fmt: skip


ADDERS = (
    add_classify,
    add_detect,
    add_slide,
    add_merge,
    add_evaluate,
    add_compare,
    add_report,
    add_stress,
    add_check,
    add_selftest,
)
