"""The parts that experiments are put together from: models, data sets, tasks and schedules."""
