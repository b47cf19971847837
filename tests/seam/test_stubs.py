"""The stubs of the compiled module name what is in it, and all of it."""

import ast
from pathlib import Path

import pytest

import precedent
from precedent import _core

STUBS = ast.parse((Path(precedent.__file__).parent / "_core.pyi").read_text())
CLASSES = {node.name: node for node in STUBS.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUBS.body if isinstance(node, ast.FunctionDef)}


def public(names):
    return {name for name in names if not name.startswith("_")}


def members(node):
    names = set()
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            names.add(each.name)
        elif isinstance(each, ast.AnnAssign):
            names.add(each.target.id)
    return public(names)


def parameters(node):
    """The names a caller gives, in order, without self."""
    arguments = [a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    return arguments if static else arguments[1:]


def compiled_parameters(function):
    text = function.__text_signature__.strip("()")
    names = [part.strip().split("=")[0].split(":")[0].strip() for part in text.split(",") if part.strip()]
    return [name for name in names if name not in ("$self", "self", "/", "*")]


def test_the_module_has_exactly_the_names_of_the_stubs():
    assert public(vars(_core)) == public(CLASSES) | public(FUNCTIONS)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_exactly_the_members_of_its_stub(name):
    assert public(vars(getattr(_core, name))) == members(CLASSES[name])


def methods():
    for name, node in CLASSES.items():
        for each in node.body:
            decorated = (
                {d.id for d in each.decorator_list if isinstance(d, ast.Name)}
                if isinstance(each, ast.FunctionDef)
                else {"property"}
            )
            if "property" not in decorated and not each.name.startswith("_"):
                yield pytest.param(name, each, id=f"{name}.{each.name}")


@pytest.mark.parametrize(("name", "node"), list(methods()))
def test_a_method_has_the_parameters_of_its_stub(name, node):
    method = getattr(getattr(_core, name), node.name)
    assert compiled_parameters(method) == parameters(node)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_parameters_of_its_stub(name):
    arguments = [a.arg for a in FUNCTIONS[name].args.args]
    assert compiled_parameters(getattr(_core, name)) == arguments
