"""Functions inside classes: reach them, and let them call `super()` from another class."""

import types

# What every class has of its own, and no method or constant of the author's.
OWN = {"__dict__", "__weakref__", "__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"}


def vars_of(cls):
    """The attributes that the class itself defines, without the ones that Python adds."""
    return {key: value for key, value in vars(cls).items() if key not in OWN}


def map_functions(attribute, change):
    """A class attribute with `change` applied to the function(s) inside it: plain, static, class method or property."""
    if isinstance(attribute, types.FunctionType):
        return change(attribute)
    if isinstance(attribute, (staticmethod, classmethod)):
        return type(attribute)(map_functions(attribute.__func__, change))
    if isinstance(attribute, property):
        parts = (part and map_functions(part, change) for part in (attribute.fget, attribute.fset, attribute.fdel))
        return property(*parts, attribute.__doc__)
    return attribute


def functions_in(attribute):
    """The function(s) inside a class attribute, as a list."""
    found = []
    map_functions(attribute, found.append)
    return found


def transplant(cls, other, names=None):
    """The attributes of `cls`, ready to be set on `other`: `super()` in them means that of `other` from now on.

    Python compiles `super()` without arguments to a look into a cell named `__class__`, which all methods of a class
    share. So it is enough to put another class into this cell. `cls` itself is not to be used after that.

    Args:
        names: which attributes; default: all that `cls` defines itself.
    """
    for cell in class_cells(cls):
        cell.cell_contents = other
    return {name: value for name, value in vars_of(cls).items() if names is None or name in names}


def class_cells(cls):
    """The cells in which the methods of a class find it when they call `super()`."""
    todo, seen, found = [f for value in vars(cls).values() for f in functions_in(value)], [], []
    for function in todo:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            content = content_of(cell)
            if name == "__class__" and content is cls:
                found.append(cell)
            elif isinstance(content, types.FunctionType) and content not in seen:  # a decorator holds the method
                seen.append(content)
                todo.append(content)
    return found


def content_of(cell):
    """What a closure's cell holds, else None."""
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return None
