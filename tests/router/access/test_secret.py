"""The text of a key, and what is kept of it."""

from router.access.secret import digest_of, id_in, is_same, new_id, new_text, pepper_of

PEPPER = pepper_of("only here")


def test_what_is_kept_of_a_key_tells_nothing_of_its_secret_and_opens_nothing():
    text = new_text(new_id()).encode()
    kept = digest_of(text, PEPPER)

    assert text[16:] not in kept
    assert is_same(digest_of(text, PEPPER), kept)
    assert not is_same(digest_of(kept, PEPPER), kept)


def test_what_was_stolen_is_of_no_use_with_another_pepper():
    text = new_text(new_id()).encode()

    assert not is_same(digest_of(text, pepper_of("elsewhere")), digest_of(text, PEPPER))
    assert not is_same(digest_of(text, pepper_of(None)), digest_of(text, PEPPER))


def test_no_two_keys_are_alike_and_each_names_itself():
    ids = [new_id() for _ in range(100)]
    texts = {new_text(ids[0]) for _ in range(100)}

    assert len(set(ids)) == len(texts) == 100
    assert {id_in(text.encode()) for text in texts} == {ids[0]}


def test_what_looks_like_no_key_has_no_id():
    text = new_text(new_id()).encode()

    assert [id_in(each) for each in (b"", text[:-1], b"x" + text[1:], text[:15] + b"-" * 44)] == [
        None
    ] * 4
