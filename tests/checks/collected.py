"""Where the modules `alternatives_NN` put their correct solutions."""

ALTERNATIVES = []  # (piece name, function or class)


def alternative(name):
    """Register a function or class as a correct way of writing the piece `name`."""

    def add(target):
        ALTERNATIVES.append((name, target))
        return target

    return add
