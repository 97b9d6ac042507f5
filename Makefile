# SPDX-License-Identifier: GPL-2.0
#
# Entry points; what they do is in tools/build/*.sh, one small step a script.
#
# Variables: K (kernel series), CONFIG=fast|debug, NPT=1|0 (nested paging of the
# test VM), KSRC (own kernel source), V=1 (full output), FETCH=1 (look for a newer
# point release now), KUF_CACHE (cache directory).

K ?= 7.3
CONFIG ?= fast
NPT ?= 1
V ?= 0
KSRC ?=
export K CONFIG NPT V KSRC

B := tools/build

.DEFAULT_GOAL := help
.PHONY: help run test test-all check bench series doctor deps fetch tree config \
	kernel selftests host-tests clean clean-cache

help:
	@echo 'KVM Userfault: page-by-page demand paging of KVM guests.'
	@echo
	@echo '  make run        build everything, then show a guest paged on demand'
	@echo '  make test       the tests for every change'
	@echo '  make test-all   those, the long ones, and all mutations (hours)'
	@echo '  make doctor     can this machine do it? what is missing?'
	@echo
	@echo '  make check      checkpatch, sparse, shellcheck, documentation'
	@echo '  make bench      numbers only: instructions and time per page'
	@echo '  make series     the mail-ready patch series, in build/series/$$K/'
	@echo '  make kernel     fetch, apply, configure, build; then stop'
	@echo '  make deps       install the Debian packages that are missing'
	@echo '  make clean      delete build/'
	@echo '  make clean-cache  delete sources, trees and objects as well'
	@echo
	@echo 'Variables: K=7.3  CONFIG=fast|debug  NPT=1|0  KSRC=/path/to/linux  V=1'
	@echo 'The kernel tree and its objects are in ~/.cache/kvm-userfault (KUF_CACHE).'

run: deps
	@$(B)/make.sh run

test: deps
	@$(B)/make.sh test

test-all: deps
	@$(B)/make.sh test-all

bench: deps
	@$(B)/make.sh bench

check: deps
	@$(B)/make.sh check

host-tests:
	@tests/apply/run.sh && tests/uapi/run.sh && tests/accessors/run.sh && tests/libkuf/run.sh && tests/kuf/run.sh && tests/protocol/run.sh && tests/mce/run.sh

doctor:
	@$(B)/doctor.sh

deps:
	@$(B)/deps.sh

fetch:
	@$(B)/fetch.sh

tree:
	@$(B)/tree.sh

config: tree
	@$(B)/config.sh

kernel: deps
	@$(B)/build.sh kernel

selftests: deps
	@$(B)/build.sh

series:
	@$(B)/series.sh

clean:
	rm -rf build

clean-cache: clean
	@$(B)/clean-cache.sh
