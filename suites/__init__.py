"""Suites: what is asked of systems.

A file is a suite: ``suite=NAME`` is the class ``NameSuite`` of ``suites/name.py``, its constructor's parameters are the settings
``suite.PARAMETER=``, and the first line of the file is what ``harness list suites`` says of it.
"""
