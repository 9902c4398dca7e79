"""An import-linter contract that lists what may be imported, not what may not.

A new module is covered from its first line: nothing has to be added anywhere to keep it in. The
standard library is always allowed, and so are the modules of the packages that are looked at.
"""

from __future__ import annotations

import sys
from typing import Any

import grimp
from importlinter import Contract, ContractCheck, fields, output


class AllowedImportsContract(Contract):
    """Holds when `packages` import only each other and `allowed`, both with what is below them."""

    type_name = "allowed_imports"

    packages: Any = fields.ListField(subfield=fields.StringField())
    allowed: Any = fields.ListField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        allowed = [*self.packages, *self.allowed]
        illegal = sorted(
            (importer, imported)
            for importer in graph.modules
            if _is_below(importer, self.packages)
            for imported in graph.find_modules_directly_imported_by(importer)
            if imported not in sys.stdlib_module_names and not _is_below(imported, allowed)
        )
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["illegal"]:
            output.print_error(f"- {importer} imports {imported}, which is not allowed", bold=False)


def _is_below(module: str, packages: list[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
