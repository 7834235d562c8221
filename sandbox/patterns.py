"""Patterns of `match`: what the interpreter reads and compares in them without any guard is refused.

The subject is looked at as a whole before the first pattern (`_subject_`), and charged for.
"""

# ruff: noqa: N802  (visitor methods are named for the nodes they visit)

from __future__ import annotations

import ast

from sandbox import policy
from sandbox.assignments import AssignmentTransformer
from sandbox.restricted import call, located


class PatternTransformer(AssignmentTransformer):
    in_attribute_pattern = False  # of an instance, whose size `_subject_` has not seen
    in_class_pattern = False  # where `match` compares attributes, which `_subject_` has not walked

    def visit_Match(self, node: ast.Match) -> ast.AST:
        patterns = [part for case in node.cases for part in ast.walk(case.pattern)]
        rests = sum(
            bool(part.name if isinstance(part, ast.MatchStar) else part.rest)
            for part in patterns
            if isinstance(part, (ast.MatchStar, ast.MatchMapping))
        )
        node = self.node_contents_visit(node)
        counted = [ast.Constant(rests)] if rests else []
        node.subject = call("_subject_", node.subject, *counted, at=node.subject)
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        return self.node_contents_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        if self.in_class_pattern and any(isinstance(part, ast.Attribute) for part in ast.walk(node.value)):
            self.refuse(node, "dotted name inside a class pattern", "a dotted name inside a class pattern")
        self.pattern_value(node.value)
        return node

    def pattern_value(self, value: ast.expr) -> None:
        """Literals and dotted names stay as they are: the interpreter reads them without any guard."""
        for part in ast.walk(value):
            if isinstance(part, ast.Attribute):
                self.pattern_attribute(part, part.attr)
            elif isinstance(part, ast.Name):
                self.visit_Name(part)
            elif isinstance(part, ast.Constant):
                self.visit_Constant(part)

    def pattern_attribute(self, node: ast.AST, name: str) -> None:
        self.check_attribute(node, name)
        if name in policy.COSTED_ATTRIBUTES:
            self.refuse(node, "costed attribute in a pattern", f"the attribute {name} in a pattern")

    def visit_MatchSingleton(self, node: ast.MatchSingleton) -> ast.AST:
        return node

    def visit_MatchSequence(self, node: ast.MatchSequence) -> ast.AST:
        return self.node_contents_visit(node)

    def visit_MatchOr(self, node: ast.MatchOr) -> ast.AST:
        return self.node_contents_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> ast.AST:
        if node.name and self.in_attribute_pattern:
            self.refuse(node, "star inside a class pattern", "a star inside a class pattern")
        self.check_name(node, node.name)
        return node

    def visit_MatchAs(self, node: ast.MatchAs) -> ast.AST:
        self.check_name(node, node.name)
        return self.node_contents_visit(node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        if node.rest and self.in_attribute_pattern:
            self.refuse(node, "star inside a class pattern", "a star inside a class pattern")
        self.check_name(node, node.rest)
        for key in node.keys:
            if any(isinstance(part, ast.Attribute) for part in ast.walk(key)):
                self.refuse(key, "dotted name as a key of a pattern", "a dotted name as a key of a pattern")
            self.pattern_value(key)
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        for name in node.kwd_attrs:
            self.pattern_attribute(node, name)
        self.pattern_value(node.cls)
        named = node.cls.id if isinstance(node.cls, ast.Name) else ""
        outer = self.in_class_pattern, self.in_attribute_pattern
        self.in_class_pattern = True
        if named in policy.BUILTIN_TYPES and named not in self.bound_names:
            node.cls = located(ast.Name(f"_{named}_type_", ast.Load()), node.cls)
            self.in_attribute_pattern |= bool(node.kwd_patterns)  # else the pattern is for the value itself
        else:
            self.in_attribute_pattern = True
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        node.kwd_patterns = [self.visit(pattern) for pattern in node.kwd_patterns]
        self.in_class_pattern, self.in_attribute_pattern = outer
        return node
