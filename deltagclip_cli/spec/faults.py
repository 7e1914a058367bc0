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

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from deltagclip_cli.core import plural, shortened
from deltagclip_cli.spec.document import Where

_MOST_COMPARED = 60  # characters: likeness of long texts takes long

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


def nearest_word(word: object, words: Iterable[str]) -> str | None:
    """The one of some legal words that is most likely meant by another one; None if none is near.

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
    """The legal word of the same meaning: in another spelling, or as other programs call it."""
    plain: dict[str, str] = {}
    for each in words:
        plain.setdefault(_plain(each), each)
        plain.setdefault(_plain(each.rpartition(":")[2]), each)  # of what stands in a library
    text = _plain(word[:_MOST_COMPARED])
    return next((plain[each] for each in [text, *_OURS.get(text, ())] if each in plain), None)


def _plain(word: str) -> str:
    """Without hyphens, underscores, slashes and capitals."""
    return re.sub(r"[^a-z0-9]", "", word.lower())


_OURS: dict[str, list[str]] = {}
for _theirs, _ours in _ELSEWHERE.items():
    for _word in _theirs.split():
        _OURS.setdefault(_word, []).extend(map(_plain, _ours.split()))


MOST_FAULTS = 100
"""Of so many of a file is told what is wrong, and of the others how many they are."""

_MOST_CHARACTERS = 200  # of words that are several


def nearest(word: object, words: Iterable[str]) -> str:
    """``" - did you mean 'x'?"``, or nothing if no word is near."""
    words = list(words)
    several = str(word)[:_MOST_CHARACTERS].replace(" ", "").split(",")
    if len(several) > 1 and all(each in words for each in several):
        return f" - did you mean '{several[0]}' and '{several[1]}', each as a word of its own?"
    found = nearest_word(word, words)
    return f" - did you mean '{found}'?" if found else ""


def explained(message: str, hint: str, where: Where, value: object = None) -> InitErrorDetails:
    """A fault in our own words."""
    context = {"message": message, "hint": hint}
    kind = PydanticCustomError("explained", "{message}", context)
    return InitErrorDetails(type=kind, loc=where, input=value)


def raised(faults: list[InitErrorDetails]) -> ValidationError:
    """One error of several faults."""
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
    """The faults of an error, each at its place below ``where``."""
    for fault in error.errors(include_url=False):
        context = dict(fault.get("ctx", {}))
        kind: str | PydanticCustomError = fault["type"]
        if kind == "explained":
            kind = PydanticCustomError("explained", "{message}", context)
        place = (*where, *fault["loc"])
        yield InitErrorDetails(type=kind, loc=place, input=fault["input"], ctx=context)


def naming_legal_options(
    error: ValidationError, owner: str, legal: list[str], elsewhere: Callable[[str], str | None]
) -> ValidationError:
    """The same error, in which every unknown option of the outermost level names the legal ones.

    Args:
        error: of a group of settings.
        owner: see :func:`unknown_option`.
        legal: the options that there are.
        elsewhere: where an option stands that is none of this group; None if it is not known.
    """
    faults = list(faults_of(error))
    for number, fault in enumerate(faults[:MOST_FAULTS]):
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            name, where = fault["loc"][0], fault["loc"]
            faults[number] = unknown_option(name, owner, legal, where, elsewhere)
    return raised(faults)


def nowhere(option: str) -> None:
    """No option stands elsewhere."""


def unknown_option(
    name: object,
    owner: str,
    legal: list[str],
    where: Where,
    elsewhere: Callable[[str], str | None] = nowhere,
) -> InitErrorDetails:
    """``owner`` reads ``" for adam"``, or is empty where the place says enough."""
    place = elsewhere(str(name))
    near = f" - did you mean '{place}'?" if place else nearest(name, legal)
    hint = f"options: {', '.join(legal) or 'none'}{near}"
    return explained(f"unknown option '{shortened(str(name))}'{owner}.", hint, where)


def unknown_label(label: object, labels: list[str], where: Where) -> InitErrorDetails:
    """There is no such optimizer in the experiment."""
    hint = f"optimizers: {', '.join(labels)}{nearest(label, labels)}"
    return explained(f"there is no optimizer '{label}' in this experiment.", hint, where)


def sentence(where: Where, all_details: Sequence[ErrorDetails]) -> tuple[Where, str]:
    """Faults of one place as the sections that lead there, and what is wrong in the last of them.

    Args:
        where: the place; its last part is the setting.
        all_details: its faults, several if each kind of value that is legal has its own.
    """
    first = all_details[0]
    context = first.get("ctx", {})
    if "message" in context:
        trail, message = where[:-1] or where, context["message"]
    elif first["type"] == "missing" and first["loc"][-1] == where[-1]:
        trail, message = where[:-1], f"'{where[-1]}' is missing."
    elif first["type"] == "missing":
        trail, message = where[:-1], f"'{where[-1]}' has too few items (got {len(first['input'])})."
    else:
        last = where[-1]
        what = f"value {last + 1} of '{where[-2]}'" if isinstance(last, int) else f"'{last}'"
        trail = where[: -2 if isinstance(last, int) else -1]
        rules = ", or ".join(dict.fromkeys(rule(details["msg"]) for details in all_details))
        message = f"{what} {rules} (got {got(first['input'])})."
        context = {"hint": _hint(where[-1], all_details)}
    hint = f"\n  {context['hint']}" if context.get("hint") else ""
    return trail, f"{message}{hint}"


def _hint(key: object, all_details: Sequence[ErrorDetails]) -> str:
    value, kinds = all_details[0]["input"], [each["type"] for each in all_details]
    if kinds[0] in ("list_type", "tuple_type"):
        return _list_of(key, value)
    literals = [each["ctx"]["expected"] for each in all_details if each["type"] == "literal_error"]
    words = [word for each in literals for word in re.findall(r"'([^']*)'", each)]
    return nearest(value, words).removeprefix(" - ") if isinstance(value, str) else ""


def _list_of(key: object, value: object) -> str:
    """How one value is written where a list is wanted; ``seeds: 5`` means that there be five."""
    if key == "seeds" and type(value) is int and 1 < value <= _MOST_SEEDS:
        return f"{value} seeds are {list(range(value))}; this one alone is [{value}]"
    return "" if isinstance(value, dict) else f"a list is written [{shortened(str(value), 40)}]"


def in_one_line(error: ValidationError) -> str:
    """The first fault of an error, and how many more there are; without a full stop."""
    faults = error.errors(include_url=False)
    where = faults[0]["loc"] or ("the whole",)
    trail, message = sentence(where, [each for each in faults if each["loc"] == faults[0]["loc"]])
    line = " ".join(" › ".join([*map(str, trail), message]).split()).rstrip(".")
    more = len({each["loc"] for each in faults}) - 1
    return f"{line}; and {plural(more, 'more fault')}" if more else line


def rule(message: str) -> str:
    """pydantic's sentence as the end of ours: "must be a valid number"."""
    ours = re.sub(r"^(Input|List|Dictionary|Value|Tuple) should", "must", message)
    ours = re.sub(r" (after validation, not \d+|or instance of \w+)$", "", ours)
    ours = re.sub(r"(valid (integer|number|boolean)), .*", r"\1", ours)
    return ours.replace("a valid dictionary", "a mapping").replace("a valid tuple", "a list")


def got(value: object) -> str:
    """A value for a message: short, and on one line whatever it holds."""
    if not isinstance(value, str):
        return _SHORT.repr(value)[:80]
    return f"the text '{shortened(value)}'"


_MOST_SEEDS = 10  # that are written out in a hint

_SHORT = Repr()
_SHORT.maxlevel = 3  # cut before, not after: what aliases unfold to is as long as it likes
