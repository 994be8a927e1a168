# Each command is a thin line onto scripts/; ARGS="..." is passed on.
.DEFAULT_GOAL := help
.PHONY: help run test check bench package screenshots

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: ## build and run Corral, with your catalog or an embedded default
	@scripts/run.sh $(ARGS)

test: ## run all tests on real parts
	@scripts/test.sh $(ARGS)

check: ## format, lints, dependencies, committed descriptions
	@scripts/check.sh $(ARGS)

bench: ## measure start, switch and stop
	@scripts/bench.sh $(ARGS)

package: ## make a package for Debian, Ubuntu and their like
	@scripts/package.sh $(ARGS)

screenshots: ## make the pictures of README.md and the docs
	@scripts/screenshots.sh $(ARGS)
