# What people type. Each target installs what it needs and is missing (tools/setup.sh), and does only
# what is not done yet.
.PHONY: help run build engine model embedding-model test test-vllm chaos rpc-test rpc-soak bench format lint install clean
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
SANITIZERS := asan tsan

help:
	@echo 'make run          build everything, get a small model, serve it and show one answer'
	@echo 'make run ONCE=1   the same, and stop after the answer'
	@echo 'make build        build/release/yoke'
	@echo 'make test         every test: units, sanitizers, checks, end to end'
	@echo 'make test-vllm    vLLM for this machine (6 GB), and its tests'
	@echo 'make chaos        1000 engines killed under load, in about five minutes'
	@echo 'make rpc-test     the RPC client: all models and workers, faults, sanitizers'
	@echo 'make rpc-soak     10,000 requests through three and four RPC workers'
	@echo 'make bench        what the gateway adds to a token'
	@echo 'make lint         formatting, static analysis, layering'
	@echo 'make format       format the sources'
	@echo 'make install      yoke and its engine to PREFIX ($(PREFIX))'

run:
	@ONCE='$(ONCE)' bash tools/run.sh

build:
	@bash tools/setup.sh build
	@cmake --preset release -Wno-dev >/dev/null
	@cmake --build --preset release --target yoke

engine:
	@bash tools/setup.sh engine
	@python3 tools/get_llama_cpp.py

model:
	@bash tools/setup.sh engine
	@python3 tools/get_starter_model.py

# For the tests of embeddings: all-MiniLM-L6-v2.
embedding-model:
	@bash tools/setup.sh engine
	@python3 tools/get_embedding_model.py

# The sanitizers' builds come first: the one run of ctest starts their tests too.
test: engine model embedding-model
	@bash tools/setup.sh build test
	@for preset in $(SANITIZERS); do \
	  cmake --preset $$preset >/dev/null && cmake --build --preset $$preset --target unit_tests yoke || exit 1; \
	done
	@cmake --preset test >/dev/null
	@cmake --build --preset test
	@ctest --preset test

# vLLM is 6 GB, so it has a target of its own.
test-vllm: model
	@bash tools/setup.sh build test
	@cmake --preset test >/dev/null
	@cmake --build --preset test --target yoke fake_engine
	@python3 tools/get_vllm.py
	@cd tests/e2e && YOKE=$(CURDIR)/build/test/yoke FAKE_ENGINE=$(CURDIR)/build/test/fake_engine \
	  PYTHONDONTWRITEBYTECODE=1 python3 test_vllm.py

chaos:
	@bash tools/setup.sh build test
	@cmake --preset test >/dev/null
	@cmake --build --preset test --target yoke fake_engine
	@cd tests/e2e && YOKE=$(CURDIR)/build/test/yoke FAKE_ENGINE=$(CURDIR)/build/test/fake_engine \
	  CHAOS_KILLS=$${CHAOS_KILLS:-1000} python3 test_chaos.py

rpc-test: engine model
	@bash tools/setup.sh build test
	@cd tests/rpc && export PYTHONDONTWRITEBYTECODE=1 && RPC_MATRIX=full python3 test_rpc_equal.py && \
	  RPC_MATRIX=full python3 test_rpc_faults.py && \
	  bash sanitized.sh address && bash sanitized.sh thread

rpc-soak: engine
	@cd tests/rpc && PYTHONDONTWRITEBYTECODE=1 python3 soak.py --requests $${RPC_REQUESTS:-10000}

bench:
	@bash tools/setup.sh build engine bench
	@bash bench/run.sh

lint:
	@bash tools/setup.sh build test
	@cmake --preset test >/dev/null
	@ctest --preset test -R '^check[.]'

format:
	@bash tools/setup.sh test
	@git ls-files '*.h' '*.cc' | xargs clang-format-19 -i

install: build engine
	@cmake --install build/release --prefix '$(PREFIX)'
	@python3 tools/get_llama_cpp.py --dest '$(PREFIX)/lib/yoke/engines'

clean:
	@rm -rf build
