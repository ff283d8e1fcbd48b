import pickle

from mitoscope.errors import InputError


def test_the_message_is_one_line_with_its_four_parts() -> None:
    error = InputError("page 3 is wrong", got="64\npx", expected="128 px", remedy="cut it anew")
    assert str(error) == "page 3 is wrong: got 64 px, expected 128 px; cut it anew"


def test_an_error_crosses_a_process_boundary() -> None:
    error = InputError("page 3 is wrong", got=64, expected="128 px", remedy="cut it anew")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
