"""The table of scripts/mutate.py keeps up with the code."""

from scripts.mutate import Mutation, outdated, table


def test_every_mutation_can_still_be_made():
    mutations = table()
    assert outdated(mutations) == []
    assert len(mutations) == len(set(mutations)) >= 30
    assert all(mutation.text != mutation.broken for mutation in mutations)


def test_a_line_that_has_moved_on_is_told():
    tests = ("tests/test_mutations.py",)
    gone = Mutation("nn/dropout.py", "no such line", "", tests)
    twice = Mutation("nn/dropout.py", "import", "", tests)
    other = Mutation("nn/no_such_file.py", "import", "", ("tests/no_such_test.py",))
    problems = outdated([gone, twice, other])
    assert len(problems) == 4 and "holds this 0 times" in problems[0] and problems[3].endswith("no_such_test.py")
