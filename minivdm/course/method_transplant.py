"""Functions inside classes: reach them, and give them another class to call `super()` from.

A method that uses `super()` without arguments carries its class in a closure cell named `__class__`. So a method moves
from one class to another by copying the function with that cell replaced.
"""

import types

# What every class has of its own, and no method or constant of the author's.
OWN = {"__dict__", "__weakref__", "__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"}


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


def rebind(function, old, new):
    """`function` as if it had been written in the class `new` instead of `old`; itself where that changes nothing."""
    if not isinstance(function, types.FunctionType) or not mentions(function, old):
        return function
    cells = tuple(moved_cell(cell, old, new) for cell in function.__closure__)
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__, copy.__module__, copy.__doc__ = function.__qualname__, function.__module__, function.__doc__
    copy.__dict__.update(function.__dict__)
    if "__wrapped__" in copy.__dict__:  # a decorator's: its closure holds the function, too
        copy.__wrapped__ = rebind(copy.__wrapped__, old, new)
    return copy


def moved_cell(cell, old, new):
    """A closure cell for the moved function: another class, a moved inner function, or the same cell."""
    try:
        content = cell.cell_contents
    except ValueError:  # still empty
        return cell
    if content is old:
        return types.CellType(new)
    moved = rebind(content, old, new)
    return cell if moved is content else types.CellType(moved)


def mentions(function, cls, seen=()):
    """Whether the function, or one in its closure, carries `cls` in a closure cell."""
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:
            continue
        if content is cls:
            return True
        inner = isinstance(content, types.FunctionType) and content is not function and content not in seen
        if inner and mentions(content, cls, (*seen, function)):
            return True
    return False


def moved(attribute, old, new):
    """A class attribute of `old`, made ready to be set on `new`."""
    return map_functions(attribute, lambda function: rebind(function, old, new))


def copy_class(cls, changes=None, source=None):
    """A copy of `cls`, optionally with the attributes `changes` (written in the class `source`) on top."""
    made = type(cls)(
        cls.__name__, cls.__bases__, {**vars_of(cls), "__doc__": cls.__doc__, "__module__": cls.__module__}
    )
    made.__qualname__ = cls.__qualname__
    for key, attribute in vars_of(cls).items():
        setattr(made, key, moved(attribute, cls, made))
    for key, attribute in (changes or {}).items():
        setattr(made, key, moved(attribute, source, made))
    return made


def vars_of(cls):
    """The attributes that the class itself defines, without the ones that Python adds."""
    return {key: value for key, value in vars(cls).items() if key not in OWN}
