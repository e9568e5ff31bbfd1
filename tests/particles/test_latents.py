"""Latents: by particle id, kept in plain archives, and never from a damaged or pickled file."""

from __future__ import annotations

import numpy as np
import pytest

from tomodrgn.particles.latents import Latents


def latents(*, covariance: bool = False) -> Latents:
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(4, 3, 3)).astype(np.float32) if covariance else None
    return Latents(
        particle_id=np.array(["001/1", "x/2", "015", "1e5"]),
        mu=rng.normal(size=(4, 3)).astype(np.float32),
        logvar=rng.normal(size=(4, 3)).astype(np.float32),
        covariance=spread,
    )


@pytest.mark.parametrize("covariance", [False, True])
def test_saved_latents_are_read_back_bit_for_bit(tmp_path, covariance):
    known = latents(covariance=covariance)
    known.save(tmp_path / "folder" / "l.npz")
    found = Latents.load(tmp_path / "folder" / "l.npz")
    assert found.particle_id.tolist() == ["001/1", "x/2", "015", "1e5"]
    np.testing.assert_array_equal(found.mu, known.mu)
    np.testing.assert_array_equal(found.logvar, known.logvar)
    assert (found.covariance is None) is not covariance
    if covariance:
        np.testing.assert_array_equal(found.covariance, known.covariance)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["l.npz"]


def test_archive_is_plain(tmp_path):
    latents().save(tmp_path / "l.npz")
    with np.load(tmp_path / "l.npz", allow_pickle=False) as archive:
        assert {name: archive[name].dtype.kind for name in archive.files} == {
            "particle_id": "U",
            "mu": "f",
            "logvar": "f",
        }
        assert archive["mu"].dtype == np.float32


def test_homogeneous_latents_have_no_dimension(tmp_path):
    empty = np.zeros((2, 0), np.float32)
    known = Latents(particle_id=np.array(["a", "b"]), mu=empty, logvar=empty)
    known.save(tmp_path / "l.npz")
    assert (Latents.load(tmp_path / "l.npz").z_dim, len(known), known.frame().shape) == (0, 2, (2, 0))


def test_nothing_is_overwritten_unless_asked(tmp_path):
    path = tmp_path / "l.npz"
    latents().save(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"l\.npz"):
        latents(covariance=True).save(path)
    assert path.read_bytes() == before
    latents(covariance=True).save(path, overwrite=True)
    assert Latents.load(path).covariance is not None


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        Latents.load(tmp_path / "nowhere.npz")


def damaged(kind: str, good: bytes) -> bytes:
    return {
        "empty": b"",
        "text": b"particle_id,z1\n001,0.5\n",
        "cut": good[: len(good) // 2],
        "changed": good[:200] + bytes([good[200] ^ 255]) + good[201:],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "changed"])
def test_damaged_file_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "l.npz"
    latents().save(path)
    path.write_bytes(damaged(kind, path.read_bytes()))
    with pytest.raises(ValueError, match=r"l\.npz, expected an \.npz archive"):
        Latents.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logvar": None}, r"\('logvar'\)"),
        ({"logvar": np.zeros((2, 3))}, "logvar"),
        ({"mu": np.zeros((1, 2)), "logvar": np.zeros((1, 2))}, "for 2 particles"),
        ({"logvar": np.array([["x", "y"]] * 2)}, "could not convert"),
        ({"covariance": np.zeros((2, 3, 3))}, "covariance"),
        ({"particle_id": np.array(["a", "a"])}, "'a' 2 times"),
    ],
)
def test_archive_of_something_else_is_refused(tmp_path, change, words):
    path = tmp_path / "l.npz"
    arrays = {"particle_id": np.array(["a", "b"]), "mu": np.zeros((2, 2)), "logvar": np.zeros((2, 2))}
    np.savez(path, **arrays)
    assert len(Latents.load(path)) == 2
    np.savez(path, **{name: value for name, value in (arrays | change).items() if value is not None})
    with pytest.raises(ValueError, match=f"(?s)expected an .*{words}"):
        Latents.load(path)


def test_single_array_is_refused(tmp_path):
    np.save(tmp_path / "l.npy", np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"l\.npy, expected an \.npz archive"):
        Latents.load(tmp_path / "l.npy")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: object) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("archive", [True, False])
def test_pickled_file_is_refused_and_nothing_in_it_is_run(tmp_path, archive):
    path, mark = tmp_path / "l.npz", tmp_path / "was_run"
    trapped = np.array([Trap(mark)], dtype=object)
    if archive:
        np.savez(path, particle_id=trapped, mu=np.zeros((1, 2)), logvar=np.zeros((1, 2)))
    else:
        with path.open("wb") as file:
            np.save(file, trapped, allow_pickle=True)
    with pytest.raises(ValueError, match="expected an"):
        Latents.load(path)
    assert not mark.exists()


def test_alignment_is_by_name(tmp_path):
    known = latents(covariance=True)
    found = known.aligned_to(np.array(["015", "001/1"]))
    assert found.particle_id.tolist() == ["015", "001/1"]
    np.testing.assert_array_equal(found.mu, known.mu[[2, 0]])
    np.testing.assert_array_equal(found.logvar, known.logvar[[2, 0]])
    np.testing.assert_array_equal(found.covariance, known.covariance[[2, 0]])
    with pytest.raises(KeyError, match=r"2 particle ids without a latent, first \['15', '100000'\]"):
        known.aligned_to(np.array(["15", "015", "100000"]))


def test_table_has_means_and_standard_deviations_by_id():
    known = latents()
    table = known.frame()
    assert table.columns.tolist() == ["z1", "z2", "z3", "z1_std", "z2_std", "z3_std"]
    assert (table.index.name, table.index.tolist()) == ("particle_id", known.particle_id.tolist())
    np.testing.assert_array_equal(table["z2"], known.mu[:, 1])
    np.testing.assert_allclose(table["z3_std"] ** 2, np.exp(known.logvar[:, 2]), rtol=1e-5)


def test_latents_cannot_be_changed_and_leave_their_source_alone():
    mu = np.zeros((2, 1), np.float32)
    known = Latents(particle_id=np.array(["a", "b"]), mu=mu, logvar=mu.copy())
    with pytest.raises(ValueError, match="read-only"):
        known.mu[0] = 1
    mu[0] = 1
