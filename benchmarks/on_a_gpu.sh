#!/usr/bin/env bash
# What has to be seen on a GPU, in at most nine minutes, as JSON; see benchmarks/on_a_gpu.py.
#
#   benchmarks/on_a_gpu.sh --output DIR [--wheels DIR] [--device cuda|cpu] [--quick] [--minutes 9]
#
# PYTHON names the interpreter, which brings its own torch and torchvision (default: python3).
exec "${PYTHON:-python3}" "$(dirname "$0")/on_a_gpu.py" "$@"
