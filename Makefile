.PHONY: repro test verify refresh
repro test:
	@python3 dev.py $@
verify:
	@python3 dev.py verify $(if $(LEVEL),--level $(LEVEL)) $(if $(CELL),--cell $(CELL))
refresh:
	@python3 dev.py refresh $(DATASET)
