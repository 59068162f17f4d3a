"""Faults on purpose, counted: `plainres torture` kills, damages and starves runs, and compares.

zygote.py runs the command in forks, changes.py stops it at a change of a file, places.py has the
folders and the outcome of a fault, judge.py compares with an undisturbed run. The faults are in
crashes.py, sweeps.py, damage.py, disks.py, pictures.py, memory.py; campaign.py runs them, report.py
writes the README. Linux only.
"""
