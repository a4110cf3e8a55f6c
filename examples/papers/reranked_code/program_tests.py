"""Tests of programs of one line. A program is read as arithmetic on x, and nothing of it is run as Python, so thousands
are tested in seconds."""

import ast
import operator

INPUTS = (0, 1, 4, 10)
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def value(node, x):
    """What an expression is worth."""
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id="x"):
            return x
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in OPERATIONS:
            return OPERATIONS[type(operation)](value(left, x), value(right, x))
    raise ValueError("no sum, difference or product")


def results(program):
    """What a program gives for the inputs; nothing where it is no function of x."""
    try:
        match ast.parse(program).body:
            case [ast.Assign(targets=[ast.Name(id="f")], value=ast.Lambda(body=body))]:
                return [value(body, x) for x in INPUTS]
    except (SyntaxError, ValueError):
        pass
    return []


def reward(response, reference, prompt):
    return " ".join(map(str, results(response))) == reference
