"""Answers: arrays in, tables out; each random step takes a seed.

Which question is answered where (``tomodrgn.analysis.<module>``):

latent_space
    `reduce_latents` (PCA), `umap_latents`, `tsne_latents`, `cluster_latents` (k-means), `cluster_centres`,
    `nearest_particles`, `adjusted_rand_index`; ``umap_job.UmapJob`` makes a UMAP beside other work.
clusters
    `mixture_clusters`, `density_clusters` (HDBSCAN), `graph_clusters` (Leiden), `mixture_bic`, `cluster_stability`.
outliers, selections, query
    `score_outliers`; `unite_selections`, `intersect_selections`, `invert_selection`; `query_particles`.
paths, tours, support
    `traverse_latents`, `straight_path`, `graph_path`, `latent_path`; `cluster_tour`; `path_support` (density along a
    path, and the particles near it).
associations
    `associate_columns`, `nuisance_of`.
convergence
    `compare_epochs` (with FSC against a reference map), `compare_tilt_halves`.
landscape, regions, occupancy
    `reduce_volumes`; `sphere_region`, `automatic_region`, `read_region`; `region_occupancy`, `occupied_shares`.
    ``run_steps.decode_ensemble`` makes the maps.
resolution
    `half_map_fsc` (phases randomised), `randomise_phases`, `local_resolution`, `correlate_maps`.
validation
    `validate_selection`.
neighbourhood, enrichment
    `nearest_neighbours`, `recurrent_pairs`, `pair_distances`; `enrich_in_tomograms`, `enrich_around_classes`,
    `enrich_around_particles`.
mapback, placement
    `map_back` (`MapBack.affine`, `MapBack.affine_zyx`); `place_maps`, `render_tomogram`, `score_hands`.
run_analysis
    `analyze_run`: all of it, of a run.
"""
