# SPDX-License-Identifier: GPL-2.0
"""Sphinx's configuration: sphinx-build -W Documentation OUTPUT."""

project = "kvm-memattr"
html_title = "kvm-memattr"
html_theme = "alabaster"
root_doc = "index"
