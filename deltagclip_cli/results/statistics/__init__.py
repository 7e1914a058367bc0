"""Statistics of the values of several seeds, and of the difference between two sets of them.

Everything here takes plain numbers, one for each seed, and leaves distributions and tests to scipy.
A value that is not finite stands for a run that diverged: worse than every number. It has a rank,
and so a place in medians and rank tests; a mean it has not, and so means leave it out and say so
by their n.

    summary       one setting: mean, median, interquartile mean, and their intervals
    difference    settings against another: t-tests, exact rank tests, effect size, Holm's
                  correction; and against the best of them, which the same values chose
    across        several settings over several experiments: mean ranks, performance profiles

It loads numpy and scipy, and so a command imports it when it needs it.
"""
