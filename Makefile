.PHONY: repro test verify refresh
repro test verify:
	@python3 dev.py $@
refresh:
	@python3 dev.py refresh $(DATASET)
