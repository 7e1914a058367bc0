"""Words that a person may have meant by another one: spelt alike, or what other programs say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Whoever asks says which words are legal where, so that one word may stand for several things.
_ELSEWHERE = {
    # sections of an experiment
    "algorithm algorithms algos methods optim optims": "optimizers optimizer",
    "arch architecture backbone net network": "model",
    "dataset datasets dataloader trainset": "data",
    "criterion lossfn lossfunction objective": "loss task",
    "lrscheduler lrschedule scheduler sched": "schedule",
    "dtype amp mixedprecision": "precision",
    "deterministic reproducible reproducibility cudnnbenchmark": "determinism",
    "epoch maxepochs numepochs nepochs ntrainepochs numtrainepochs": "epochs",
    "gradientaccumulation gradientaccumulationsteps accumulategradbatches gradaccum "
    "gradaccumsteps accumulation accumulationsteps accumulationiter": "accumulate",
    "step maxsteps numsteps nsteps numtrainsteps trainsteps totalsteps iters maxiters iterations "
    "numiterations maxiterations updates": "steps",
    "evalevery evaluationevery evalinterval evalfreq evalsteps valcheckinterval valinterval "
    "testevery validateevery": "evaluate_every",
    "stacked ensemble vmap": "stack",
    "gpus numgpus ngpus ranks worldsize nprocpernode processes": "devices",
    "numnodes nnodes": "nodes",
    "strategy distributed ddp fsdp": "parallel",
    "torchcompile compiled compiler inductor cudagraphs cudagraph jit": "compile",
    "emadecay emabeta modelema modelemadecay polyak averaging weightaveraging swa": "ema",
    "seed randomseed numseeds nseeds randomstate": "seeds",
    "sweep hparams searchspace gridsearch": "grid",
    "scales sizes scaling": "scale",
    "description desc": "title",
    "earlystop earlystopper": "early_stopping",
    # of data
    "bs batch batchsz minibatch minibatchsize trainbatchsize perdevicetrainbatchsize": "batch_size",
    "evalbatchsize testbatchsize valbatchsize": "evaluation_batch_size",
    "imgsize imagesz resize resolution inputsize": "image_size",
    "augmentation augmentations transform transforms": "augment",
    "ntrain numtrain trainsize": "train_samples train",
    "ntest numtest testsize": "test_samples test",
    "val valid dev eval holdout validationsplit validationfraction valsize": "validation",
    "split splitting": "splits",
    "label labels y ycolumn": "target targets",
    "features columns x xcolumns": "inputs",
    # of optimizers and schedules
    "learningrate alpha eta stepsize": "lr",
    "wd l2 l2penalty regularization": "weight_decay",
    "beta beta1 beta2": "betas momentum",
    "mom mu beta": "momentum",
    "epsilon": "eps",
    "clip clipnorm cliplevel gradclip maxnorm maxgradnorm threshold": "gamma clip_grad_norm",
    "gradientclipval gradclipval gradientclipping clipgrad clipgradients": "clip_grad_norm",
    "paramgroups parametergroups paramwisecfg": "groups",
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

_MOST_COMPARED = 60  # characters of a word: likeness of long texts takes long
_MOST_WRITTEN = 200  # characters of words that are several


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
