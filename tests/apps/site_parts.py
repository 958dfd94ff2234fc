"""What the sites in all frameworks have in common."""

import time

PARTS = bytes(range(256)) * 1000


def lines(who):
    for number in range(5):
        yield f"{number} for {who}\n".encode()
        time.sleep(0.01)
