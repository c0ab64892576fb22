import pytest


@pytest.fixture
def hub(stubs, tmp_path, monkeypatch):
    """A hub on loopback, asked instead of the real one; its cache is empty."""
    import huggingface_hub  # noqa: F401  (before the environment is changed: it keeps what it reads then)
    from hub_stand_in import StandIn

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's attempts
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)  # which it writes at once: 10 MB otherwise
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    stand_in = StandIn()
    monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
    yield stand_in
    stand_in.close()


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Pip finds wheels in this folder alone, and installs into another that can be imported from."""
    index, site = tmp_path / "index", tmp_path / "site"
    index.mkdir()
    site.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(index), "TARGET": str(site)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    monkeypatch.syspath_prepend(str(site))
    return index, site
