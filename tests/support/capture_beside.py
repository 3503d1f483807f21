"""A script with a guard that captures with one worker beside other data: SPEC BALLAST CLUSTER DEVICE.

Prints how many blocks are done and the largest peak memory of a worker in bytes.
"""

import sys

import actstore

if __name__ == "__main__":
    # Stands for a notebook's arrays.
    ballast = bytearray(b"x") * int(sys.argv[2])
    summary = actstore.capture(actstore.load_spec(sys.argv[1]), cluster=sys.argv[3], workers=1, device=sys.argv[4])
    assert summary.complete, summary.failed
    print(summary.done, summary.peak_memory)
