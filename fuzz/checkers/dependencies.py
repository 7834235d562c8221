"""Strictly serializable: the transactions of a history have no cycle of dependencies, in the manner of Elle.

Transactions read whole lists and append items that nobody else appends. So a read says
which transactions came before it and in which order, and from reads alone follow
the edges of a graph:

* ww: the writer of an item, to the writer of the item after it;
* wr: the writer of the last item of a list that was read, to its reader;
* rw: a reader, to the writer of the first item that it did not see;
* rt: what was answered, to what was asked after that.

A cycle means that no order explains the history. Nothing else than the clients'
notes is looked at: not the log, not a timestamp.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import attrs


@attrs.frozen
class Transaction:
    name: str
    invoked: int  # step
    completed: int | None  # step of the answer; None if there was none, or a failure
    status: str  # ok, failed, or pending: then it may have happened
    reads: Mapping[str, tuple[str, ...]]  # before its own appends
    appends: Mapping[str, str]  # key to item


def check(transactions: Sequence[Transaction]) -> list[str]:
    problems: list[str] = []
    writers = {
        (key, item): place for place, each in enumerate(transactions) for key, item in each.appends.items()
    }
    orders = _orders(transactions, problems)
    for key, order in orders.items():
        for item in order:
            writer = writers.get((key, item))
            if writer is None:
                problems.append(f"{item} in {key} was written by nobody")
            elif transactions[writer].status == "failed":
                problems.append(f"{item} in {key} was read; its writer failed: {transactions[writer].name}")
        if len(set(order)) != len(order):
            problems.append(f"an item is in {key} twice: {order}")
    if problems:
        return problems  # the graph would say the same in more words
    graph = _graph(transactions, writers, orders)
    cycle = _find_cycle(graph)
    if cycle:
        problems.append("a cycle of dependencies: " + _tell(cycle, graph, transactions))
    return problems


def _orders(transactions: Sequence[Transaction], problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the order of each list's items: the longest read, of which all others must be beginnings."""
    orders: dict[str, tuple[str, ...]] = {}
    for each in transactions:
        for key, items in each.reads.items():
            longest = orders.get(key, ())
            shorter, longer = sorted((longest, items), key=len)
            if longer[: len(shorter)] != shorter:
                problems.append(f"{each.name} read {key} as {items}, somebody else as {longest}")
            orders[key] = longer
    return orders


Graph = list[dict[int, str]]  # from a node to its successors, with the kind of the edge


def _graph(
    transactions: Sequence[Transaction],
    writers: Mapping[tuple[str, str], int],
    orders: Mapping[str, tuple[str, ...]],
) -> Graph:
    graph: Graph = [{} for _ in transactions]

    def edge(one: int, other: int, kind: str) -> None:
        if one != other:
            graph[one].setdefault(other, kind)

    for key, order in orders.items():
        for one, other in pairwise(order):
            edge(writers[key, one], writers[key, other], f"ww {key}")
    for reader, each in enumerate(transactions):
        for key, items in each.reads.items():
            order = orders[key]
            if items:
                edge(writers[key, items[-1]], reader, f"wr {key}")
            if len(items) < len(order):
                edge(reader, writers[key, order[len(items)]], f"rw {key}")
    _add_time(graph, transactions)
    return graph


def _add_time(graph: Graph, transactions: Sequence[Transaction]) -> None:
    """Add the edges of time by way of one node for each answer, in a chain: n of them, not n squared."""
    moments = sorted(
        (each.completed, place) for place, each in enumerate(transactions) if each.completed is not None
    )
    starts = deque(sorted((each.invoked, place) for place, each in enumerate(transactions)))
    newest: int | None = None
    for step, place in moments:
        while starts and starts[0][0] < step:
            _, started = starts.popleft()
            if newest is not None:
                graph[newest].setdefault(started, "rt")
        graph.append({})
        graph[place].setdefault(len(graph) - 1, "rt")
        if newest is not None:
            graph[newest][len(graph) - 1] = "rt"
        newest = len(graph) - 1
    for _, started in starts:
        if newest is not None:
            graph[newest].setdefault(started, "rt")


def _find_cycle(graph: Graph) -> list[int]:
    """Return the nodes of a shortest cycle through some node that is on one; empty if there is none."""
    for component in _components(graph):
        if len(component) > 1:
            inside = set(component)
            return min((_shortest(graph, start, inside) for start in component), key=len)
    return []


def _shortest(graph: Graph, start: int, inside: set[int]) -> list[int]:
    came_from: dict[int, int] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for successor in graph[node]:
            if successor == start:
                path = [node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if successor in inside and successor not in came_from:
                came_from[successor] = node
                queue.append(successor)
    raise AssertionError("not on a cycle")


def _components(graph: Graph) -> Iterator[list[int]]:
    """Yield the strongly connected components (Tarjan, with a stack of our own)."""
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in range(len(graph)):
        if root in number:
            continue
        work: list[tuple[int, Iterator[int]]] = [(root, iter(graph[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, successors = work[-1]
            for successor in successors:
                if successor not in number:
                    number[successor] = low[successor] = len(number)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(graph[successor])))
                    break
                if successor in on_stack:
                    low[node] = min(low[node], number[successor])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    yield component


def _tell(cycle: list[int], graph: Graph, transactions: Sequence[Transaction]) -> str:
    parts = []
    for node, successor in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        name = transactions[node].name if node < len(transactions) else "(later)"
        parts.append(f"{name} --{graph[node][successor]}--> ")
    return "".join(parts) + "the first"
