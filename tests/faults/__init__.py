"""Fault injection: a small command is disturbed, and the same command is run again.

    pytest -n 2 tests/faults                  samples of all faults, about three minutes
    UBENCH_FAULTS=all pytest tests/faults     every file operation, every bit, hours

| file | faults |
|---|---|
| `test_signals.py` | SIGKILL, SIGTERM and SIGINT before a file operation |
| `test_errors.py` | file operations that fail: ENOSPC, EDQUOT, EIO, EMFILE |
| `test_full_disk.py` | a limit of a file's size, and a tmpfs that fills |
| `test_bits.py` | flipped bits, in the functions that read each kind of file |
| `test_damage.py` | the same, and files cut, emptied, swapped or replaced, in the commands |
| `test_sharing.py` | processes and threads on one folder, one of them killed |
| `test_executors.py` | worker processes and their command killed, the folder away for a while |
| `../cli/test_slurm.py` | tasks of Slurm killed, requeued, cancelled |
| `../test_ray.py` | nodes, tasks, workers and the command of Ray killed |
| `test_merges.py` | folders copied over each other, in part and in any order |

Checked are invariants, not messages (`world.py`):

- records, noise, networks and measurements are those of an undisturbed run, bit for bit (not the
  times);
- a command that ends with exit code 0 printed the right numbers, and what a disturbed one left can
  be read, is right or is refused;
- no file of others was changed, and nothing is left over: temporary folders, checkpoints.

The numbers of faults are printed at the end of the tests (`tests/conftest.py`).
"""
