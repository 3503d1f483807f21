"""What a run will do and cost, known before anything is computed: network, data, budget, identity."""
