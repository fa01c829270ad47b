"""The processes that benchmarks put beside a controller: load, targets, participants, floors."""
