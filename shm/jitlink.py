"""One compilation of a whole tree of kernels: callees are linked into their caller and optimised there, once.

Numba compiles bottom up: every function that a kernel calls is optimised, turned into machine code and given a Python
wrapper of its own, and then every caller, at every level, copies all that it reaches, optimises it again and turns it
into machine code again. A kernel with a hundred functions below it paid for each of them some five times, and most of
that machine code never ran. Here a function that is compiled because another one calls it is a *part*: typed and
lowered, nothing more. The kernel that Python calls (the *whole*) links the parts of its tree, makes them its own
(nobody else can call them, so that the optimiser may drop arguments, specialise and inline freely) and goes through
LLVM, once.

Costs: a function that Python calls and that kernels call is typed twice, and parts are not in the cache on disk (wholes
are; who loads a whole from there needs no parts). So a kernel that Python calls on its way is warmed by name
(``shm.warm``, the ``warm`` of each worker): that a kernel above it was warmed is not enough.

This reaches into numba below its documented interface: :mod:`shm.jit` refuses a numba that it was not tried with.
"""

# numba has no types: everything of it is Any here.
# mypy: disable-error-code="no-untyped-call,attr-defined,misc,name-defined"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from numba.core import codegen, dispatcher, environment, registry, sigutils, types, typing


class Library(codegen.JITCodeLibrary):
    """What numba keeps per compiled function: its LLVM module, and the libraries of the functions that it calls.

    Of a part it is the part's own module, never made into machine code by itself; of a whole, ``finalize`` links the
    modules of all parts below it into its own and makes machine code of them together.
    """

    source = ""  # absolute path of the file of a part's function

    def add_linking_library(self, library: Any) -> None:
        """Remembers a callee's library until ``finalize``. (Numba's own method makes its machine code here.)"""
        self._linking_libraries.append(library)

    def _optimize_functions(self, ll_module: Any) -> None:
        """Only names the target's data layout. Numba optimises each function here, before it is linked; ``finalize``
        optimises all of them after they are, and doing both would cost twice."""
        ll_module.data_layout = self._codegen._data_layout

    def part(self) -> Any:
        """The part's module. Its functions are marked linkonce_odr: several callers link the same function, and LLVM
        keeps one of the equal copies."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"
        return self._final_module

    def finalize(self) -> None:
        """Links the modules of all parts into this one, optimises the whole and makes machine code of it.

        Every linked function becomes internal: only this module can call it, so that LLVM may inline or drop it.
        """
        self._raise_if_finalized()
        own = {function.name for function in self._final_module.functions if not function.is_declaration}
        for library in self.tree():
            self._reload_init.update(library._reload_init)
            is_part = isinstance(library, Library) and not library._finalized
            module = library.part() if is_part else library._get_module_for_linking()
            self._final_module.link_in(module, preserve=True)
        for function in self._final_module.functions:
            if not function.is_declaration and function.name not in own:
                function.linkage = "internal"
        self._optimize_final_module()
        self._final_module.verify()
        self._finalize_final_module()
        for variable in self._final_module.global_variables:
            found = environment.lookup_environment(variable.name)
            if found is not None:  # a part's own; numba itself knows of the whole's only
                self._codegen.set_env(variable.name, found)

    def tree(self) -> list[Any]:
        """The libraries of all functions that this one calls, directly or through others, each once."""
        found: dict[Any, None] = {}
        waiting = list(self._linking_libraries)
        while waiting:
            library = waiting.pop()
            if library not in found:
                found[library] = None
                waiting += library._linking_libraries
        return list(found)


class _Heard:
    """Who hears of each part that this process makes (:func:`report_to`)."""

    made: Callable[[], None] = staticmethod(lambda: None)


def report_to(made: Callable[[], None]) -> None:
    """``made`` is called for each function that is lowered for a kernel above it: how far a compilation is."""
    _Heard.made = staticmethod(made)


class _PartCompiler(dispatcher._FunctionCompiler):
    """Types and lowers; no machine code, no wrapper for Python."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_compile = True
        flags.no_cpython_wrapper = True
        flags.no_cfunc_wrapper = True
        return flags


class _Parts:
    """The parts made of one jitted function: one for each set of argument types that kernels call it with."""

    def __init__(self, whole: Any) -> None:
        own = whole._compiler
        self._whole = whole
        self._compiler = _PartCompiler(own.py_func, own.targetdescr, own.targetoptions, own.locals, own.pipeline_class)
        self._made: dict[tuple[Any, ...], tuple[object, Any]] = {}

    def make(self, arguments: tuple[Any, ...]) -> object:
        """The key under which the lowering of a call finds the part."""
        if arguments not in self._made:
            with self._whole._compiling_counter:  # how numba's typing sees that a function calls itself
                result = self._compiler.compile(arguments, None)
            result.library.source = self._compiler.py_func.__code__.co_filename
            key = object()
            self._compiler.targetdescr.target_context.insert_user_function(key, result.fndesc, [result.library])
            self._made[arguments] = key, result
            _Heard.made()
        return self._made[arguments][0]

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """What ``Dispatcher.get_call_template`` answers, of parts; constants as their plain types.

        (Numba would compile a function again for every constant passed to it; where LLVM inlines it, they reach it.)
        """
        plain = {name: types.unliteral(kind) for name, kind in kws.items()}
        signature, folded = self._compiler.fold_argument_types(tuple(map(types.unliteral, args)), plain)
        self.make(tuple(folded))
        name = self._compiler.py_func.__name__
        known = [result.signature for _, result in self._made.values()]
        template = typing.make_concrete_template(f"CallTemplate({name})", key=name, signatures=known)
        return template, signature, folded, {}

    def get_overload(self, sig: Any) -> object:
        """The key for ``sig``: never a whole's, so that nothing is linked that was optimised already."""
        arguments, _ = sigutils.normalize_signature(sig)
        return self.make(tuple(arguments))


def files_of(library: Any) -> set[str]:
    """Absolute paths of the files whose functions were linked into a compiled function's library."""
    return {part.source for part in library.tree() if isinstance(part, Library) and part.source}


def install() -> None:
    """From now on numba's code libraries are ours."""
    registry.cpu_target.target_context.codegen()._library_class = Library


def call_as_part(whole: Any) -> Any:
    """Makes jitted callers of ``whole`` (a dispatcher) take parts of it; calls from Python stay as they are."""
    parts = _Parts(whole)
    whole.get_call_template = parts.get_call_template
    whole.get_overload = parts.get_overload
    return whole
