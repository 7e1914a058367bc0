"""Faults of a spec: with a place, a message and a hint, and as sentences.

pydantic collects the errors of a whole model. A validator that raises a ``ValidationError`` of its
own has its errors taken into that collection, so one pass finds everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from reprlib import Repr

from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, ValidationError

from deltagclip_cli.core import plural, shortened

Where = tuple[str | int, ...]
"""The keys and numbers that lead to a place in a spec."""

# Whoever asks says which words are legal where, so that one word may stand for several things.
_ELSEWHERE = {
    # sections of an experiment
    "algorithm algorithms algos methods optim optims": "optimizers optimizer",
    "arch architecture backbone net network": "model",
    "dataset datasets dataloader trainset": "data",
    "criterion lossfn lossfunction objective": "loss task",
    "lrscheduler lrschedule scheduler sched": "schedule",
    "dtype amp mixedprecision": "precision",
    "epoch maxepochs numepochs nepochs ntrainepochs numtrainepochs": "epochs",
    "seed randomseed numseeds nseeds randomstate": "seeds",
    "sweep hparams searchspace gridsearch": "grid",
    "description desc": "title",
    # of data
    "bs batch batchsz minibatch minibatchsize trainbatchsize perdevicetrainbatchsize": "batch_size",
    "evalbatchsize testbatchsize valbatchsize": "evaluation_batch_size",
    "imgsize imagesz resize resolution inputsize": "image_size",
    "augmentation augmentations transform transforms": "augment",
    "ntrain numtrain trainsize": "train_samples train",
    "ntest numtest testsize": "test_samples test",
    # of optimizers and schedules
    "learningrate alpha eta stepsize": "lr",
    "wd l2 l2penalty regularization": "weight_decay",
    "beta beta1 beta2": "betas momentum",
    "mom mu beta": "momentum",
    "epsilon": "eps",
    "clip clipnorm cliplevel gradclip maxnorm maxgradnorm threshold": "gamma",
    "floor mindelta": "delta",
    "decay gammadecay lrdecay": "factor gamma weight_decay",
    "steps milestone": "milestones",
    "warmupepochs warmupsteps numwarmupsteps": "warmup",
    # of models
    "hiddendim hiddendims hiddensize hiddensizes layers units": "hidden width",
    "nlayers numlayers layers": "depth hidden",
    "act nonlinearity": "activation",
    "dropoutrate": "dropout",
    # losses
    "mse l2 l2loss mseloss meansquarederror meansquared square quadratic": "squared mse",
    "ce xent crossentropyloss nll nllloss softmax logloss": "cross_entropy ce nll",
    # names of parts
    "fmnist fashion": "fashion_mnist",
    "cifar": "cifar10",
    "imagefolder folder imagenet": "image_folder",
    "fake random randn toy": "synthetic",
    "resnet": "resnet18",
    "vit": "vit_tiny",
    "deltaclip dgclip deltagradientclipping": "delta_gclip",
    "clippedsgd gradientclipping clipgd": "gclip",
    "gd gradientdescent momentum": "sgd",
    "step steplr piecewise": "multistep steplr",
    "cosineannealing cosinelr": "cosine cosineannealinglr",
    "onecycle": "onecyclelr",
    "plateau reduceonplateau": "reducelronplateau",
    "ae autoencoder reconstruct reconstruction": "autoencode",
    "classification classifier": "classify",
    "hflip randomflip horizontalflip randomhorizontalflip": "flip",
    "crop": "random_crop",
    # precisions
    "float32 float single full 32 32bit": "fp32",
    "float64 double 64": "fp64",
    "bfloat16 16 float16 half fp16 mixed": "bf16",
    # options of the command line
    "config configfile cfg": "spec",
    "out outdir outputdir outputfolder logdir savedir": "output runs",
    "datadir dataroot datapath root": "data",
    "workers numworkers nproc parallel njobs": "jobs",
    "gpu cuda": "gpus device",
    "override overrides opt": "set",
    "resume restart overwrite rerun": "force",
    "names experimentname": "experiments",
    # metrics
    "acc accuracy top1 testacc testaccuracy": "test/accuracy test_accuracy test_acc accuracy acc",
    "valacc valaccuracy validationaccuracy": "val/accuracy val_accuracy val_acc test/accuracy",
    "trainacc trainaccuracy trainingaccuracy": "train/accuracy train_accuracy train_acc",
    "loss testloss": "test/loss test_loss loss",
    "valloss validationloss evalloss": "val/loss val_loss test/loss",
    "trainloss trainingloss": "train/loss train_loss",
}

MOST_FAULTS = 100
"""Of so many of a file is told what is wrong, and of the others how many they are."""

_MOST_COMPARED = 60  # characters of a word: likeness of long texts takes long
_MOST_WRITTEN = 200  # characters of words that are several
_MOST_SEEDS = 10  # that are written out in a hint

_SHORT = Repr()
_SHORT.maxlevel = 3  # cut before, not after: what aliases unfold to is as long as it likes


def nearest(word: object, words: Iterable[str]) -> str:
    """Return ``" - did you mean 'x'?"``, or nothing if no word is near."""
    words = list(words)
    several = str(word)[:_MOST_WRITTEN].replace(" ", "").split(",")
    if len(several) > 1 and all(each in words for each in several):
        return f" - did you mean '{several[0]}' and '{several[1]}', each as a word of its own?"
    found = nearest_word(word, words)
    return f" - did you mean '{found}'?" if found else ""


def nearest_word(word: object, words: Iterable[str]) -> str | None:
    """Return the legal word that is most likely meant by another one; None if none is near.

    First comes what :func:`synonym` finds, then what looks alike.
    """
    words = list(words)
    text = str(word)[:_MOST_COMPARED]
    meant = synonym(text, words)
    if meant is not None:
        return meant
    plain = {_plain(each): each for each in reversed(words)}
    found = get_close_matches(_plain(text), plain, n=1)
    return plain[found[0]] if found else None


def synonym(word: str, words: Iterable[str]) -> str | None:
    """Return the legal word of the same meaning: spelt or called as other programs do."""
    plain: dict[str, str] = {}
    for each in words:
        plain.setdefault(_plain(each), each)
        plain.setdefault(_plain(each.rpartition(":")[2]), each)  # of what stands in a library
    text = _plain(word[:_MOST_COMPARED])
    meant = [text]
    for theirs, ours in _ELSEWHERE.items():
        if text in theirs.split():
            meant += map(_plain, ours.split())
    return next((plain[each] for each in meant if each in plain), None)


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def explained(message: str, hint: str = "", where: Where = ()) -> InitErrorDetails:
    """Return a fault in our own words."""
    kind = PydanticCustomError("explained", "{message}", {"message": message, "hint": hint})
    return InitErrorDetails(type=kind, loc=where, input=None)


def refused(message: str, hint: str = "", where: Where = ()) -> ValidationError:
    """Return an error of one fault in our own words."""
    return raised([explained(message, hint, where)])


def raised(faults: list[InitErrorDetails]) -> ValidationError:
    """Return one error of several faults."""
    return ValidationError.from_exception_data("spec", faults)


@contextmanager
def collected(faults: list[InitErrorDetails], where: Where) -> Iterator[None]:
    """Put the faults that are raised inside into ``faults``, below ``where``, and go on.

    For what is checked by hand, a list or mapping of many things, so that all faults are found.
    """
    try:
        yield
    except ValidationError as error:
        faults += faults_of(error, where)


def faults_of(error: ValidationError, where: Where = ()) -> Iterator[InitErrorDetails]:
    """Yield the faults of an error, each at its place below ``where``."""
    for fault in error.errors(include_url=False):
        context = dict(fault.get("ctx", {}))
        kind: str | PydanticCustomError = fault["type"]
        if kind == "explained":
            kind = PydanticCustomError("explained", "{message}", context)
        place = (*where, *fault["loc"])
        yield InitErrorDetails(type=kind, loc=place, input=fault["input"], ctx=context)


def unknown_option(
    name: object, owner: str, legal: list[str], where: Where, place: str | None = None
) -> InitErrorDetails:
    """Return the fault that there is no such option.

    Args:
        name: as it was written.
        owner: ``" for adam"``, or empty where the place says enough.
        legal: the options that there are.
        where: the place of the option.
        place: the key of the option of something else that it is, if that is known.
    """
    near = f" - did you mean '{place}'?" if place else nearest(name, legal)
    hint = f"options: {', '.join(legal) or 'none'}{near}"
    return explained(f"unknown option '{shortened(str(name))}'{owner}.", hint, where)


def naming_legal_options(
    error: ValidationError,
    owner: str,
    legal: list[str],
    elsewhere: Callable[[str], str | None] = lambda option: None,
) -> ValidationError:
    """Return the same error, whose unknown options of the outermost level name the legal ones.

    ``elsewhere`` finds the key of an option of something else; the rest is as for
    :func:`unknown_option`.
    """
    faults = list(faults_of(error))
    for number, fault in enumerate(faults[:MOST_FAULTS]):
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            name = str(fault["loc"][0])
            faults[number] = unknown_option(name, owner, legal, fault["loc"], elsewhere(name))
    return raised(faults)


def unknown_label(label: object, labels: Iterable[str], where: Where) -> InitErrorDetails:
    """Return the fault that there is no such optimizer in the experiment."""
    labels = list(labels)
    hint = f"optimizers: {', '.join(labels)}{nearest(label, labels)}"
    return explained(f"there is no optimizer '{label}' in this experiment.", hint, where)


def sentence(where: Where, all_details: Sequence[ErrorDetails]) -> tuple[Where, str]:
    """Return the sections that lead to a fault, and what is wrong with the setting at their end.

    There are several details if each kind of value that is legal has its own.
    """
    first, last = all_details[0], where[-1]
    trail, hint = where[:-1], ""
    if "message" in first.get("ctx", {}):
        message, hint = first["ctx"]["message"], first["ctx"].get("hint", "")
        trail = trail or where
    elif first["type"] == "missing" and first["loc"][-1] == last:
        message = f"'{last}' is missing."
    elif first["type"] == "missing":
        message = f"'{last}' has too few items (got {len(first['input'])})."
    else:
        rules = ", or ".join(dict.fromkeys(rule(details["msg"]) for details in all_details))
        what = f"'{last}'"
        if isinstance(last, int):
            what, trail = f"value {last + 1} of '{where[-2]}'", where[:-2]
        message = f"{what} {rules} (got {got(first['input'])})."
        hint = _hint(last, all_details)
    return trail, f"{message}\n  {hint}" if hint else message


def _hint(key: object, all_details: Sequence[ErrorDetails]) -> str:
    value = all_details[0]["input"]
    if all_details[0]["type"] in ("list_type", "tuple_type"):
        if key == "seeds" and type(value) is int and 1 < value <= _MOST_SEEDS:
            return f"{value} seeds are {list(range(value))}; this one alone is [{value}]"
        return "" if isinstance(value, dict) else f"a list is written [{shortened(str(value), 40)}]"
    if not isinstance(value, str):
        return ""
    literals = [each["ctx"]["expected"] for each in all_details if each["type"] == "literal_error"]
    words = [word for each in literals for word in re.findall(r"'([^']*)'", each)]
    return nearest(value, words).removeprefix(" - ")


def in_one_line(error: ValidationError) -> str:
    """Return the first fault of an error and how many more there are, without a full stop."""
    faults = error.errors(include_url=False)
    where = faults[0]["loc"] or ("the whole",)
    trail, message = sentence(where, [each for each in faults if each["loc"] == faults[0]["loc"]])
    line = " ".join(" › ".join([*map(str, trail), message]).split()).rstrip(".")
    more = len({each["loc"] for each in faults}) - 1
    return f"{line}; and {plural(more, 'more fault')}" if more else line


def rule(message: str) -> str:
    """Return pydantic's sentence as the end of ours: "must be a valid number"."""
    ours = re.sub(r"^(Input|List|Dictionary|Value|Tuple) should", "must", message)
    ours = re.sub(r" (after validation, not \d+|or instance of \w+)$", "", ours)
    ours = re.sub(r"(valid (integer|number|boolean)), .*", r"\1", ours)
    return ours.replace("a valid dictionary", "a mapping").replace("a valid tuple", "a list")


def got(value: object) -> str:
    """Return a value for a message: short, and on one line whatever it holds."""
    if not isinstance(value, str):
        return _SHORT.repr(value)[:80]
    return f"the text '{shortened(value)}'"
