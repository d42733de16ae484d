"""Files that are written whole or not at all, and that show damage."""

import pytest

from arguide import files


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    files.write(path, lambda place: place.write_text("old"))

    def broken(place):
        place.write_text("half")
        raise error

    with pytest.raises(ValueError if isinstance(error, OSError) else KeyboardInterrupt):
        files.write(path, broken)
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_every_flipped_bit_of_a_sealed_file_is_found(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(bytes(range(64)))
    files.seal(path)
    whole = path.read_bytes()
    assert files.unsealed(path) == bytes(range(64))
    for i in range(8 * len(whole)):
        path.write_bytes(whole[: i // 8] + bytes([whole[i // 8] ^ 1 << i % 8]) + whole[i // 8 + 1 :])
        with pytest.raises(ValueError, match=r"a\.pt is damaged"):
            files.unsealed(path)
    for short in (b"", whole[:5], whole[:-1]):
        path.write_bytes(short)
        with pytest.raises(ValueError, match=r"a\.pt is damaged"):
            files.unsealed(path)


def test_a_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.digest(tmp_path / "a") == files.digest(b"abc") == "ba7816bf8f01cfea"


def test_a_sweep_deletes_what_a_killed_writer_has_left_and_nothing_else(tmp_path):
    (tmp_path / "part").mkdir()
    left = (".a-k3x_90zz.txt", "part/.run-1-abcdefgh.json")
    kept = ("a.txt", "a-k3x_90zz.txt", ".a-notes.txt", ".b-k3x_90zz.txt", ".a-k3x_90zz.csv", "part/run-1.json", ".a-k3x_90zz")
    for name in (*left, *kept):
        (tmp_path / name).write_text("")
    files.sweep(tmp_path, ("a.txt", "part/run-*.json"))
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


def test_two_sweeps_of_a_folder_at_once_disturb_no_one(tmp_path):
    class Shared:
        """A folder where another sweep deletes each file as soon as it is found."""

        def glob(self, pattern):
            for path in list(tmp_path.glob(pattern)):
                path.unlink()
                yield path

    (tmp_path / ".a-k3x_90zz.txt").write_text("")
    files.sweep(Shared(), ["a.txt"])
    assert list(tmp_path.iterdir()) == []
