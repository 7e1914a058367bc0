"""What this project's speed, memory and statistics come to, each beside a floor or a rival.

``python -m benchmarks`` measures; each module that defines ``measure`` is a benchmark.
"""
