"""What all benchmarks share: their figures, the turns in which they are taken, and where."""

from benchmarks.harness.figures import Figure, Times
from benchmarks.harness.session import Session, Skipped

__all__ = ["Figure", "Session", "Skipped", "Times"]
