"""The toy language model of the graph tests."""

from tests.graph.conftest import arpa_path

__all__ = ["arpa_path"]
