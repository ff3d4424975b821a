# BPCells: bit-packed counts on disk, re-read for every pass; transforms are fused into the reading. R package only.
# Rscript run_bpcells.R JOB INPUT OUTPUT GENES
started <- proc.time()[["elapsed"]]
given <- commandArgs(TRUE); job <- given[1]; input <- given[2]; output <- given[3]; genes <- given[4]
cannot <- function(why) { cat("cannot:", why, "\n"); quit(status = 42) }
suppressMessages(library(BPCells))
imported <- proc.time()[["elapsed"]]
if (job == "nlh_gzip" && !"gzip_level" %in% names(formals(write_matrix_anndata_hdf5))) cannot("writes without compression")
threads <- parallel::detectCores()
n_top <- 2000

counts <- open_matrix_anndata_hdf5(input)                       # genes x cells
counts <- write_matrix_dir(convert_matrix_type(counts, "uint32_t"), "bitpacked", overwrite = TRUE)
if (job == "qc") {
  of_cells <- matrix_stats(counts, col_stats = "nonzero", threads = threads)$col_stats["nonzero", ]
  counts <- counts[, of_cells >= 500]
  of_genes <- matrix_stats(counts, row_stats = "nonzero", threads = threads)$row_stats["nonzero", ]
  counts <- counts[of_genes >= 5, ]
}
n <- ncol(counts)
if (!job %in% c("nlh", "nlh_gzip")) {                           # seurat_v3
  stats <- matrix_stats(counts, row_stats = "variance", threads = threads)$row_stats
  mean <- stats["mean", ]; var <- stats["variance", ]; varies <- var > 0
  trend <- rep(0, length(var))
  trend[varies] <- loess(log10(var[varies]) ~ log10(mean[varies]), span = 0.3, degree = 2)$fitted
  std <- sqrt(10^trend)
  stats <- matrix_stats(min_by_row(counts, std * sqrt(n) + mean), row_stats = "variance", threads = threads)$row_stats
  sum <- stats["mean", ] * n; squares <- stats["variance", ] * (n - 1) + n * stats["mean", ]^2
  score <- (n * mean^2 + squares - 2 * sum * mean) / ((n - 1) * std^2)
  chosen <- rank(-score, ties.method = "first") <= n_top
}
if (job != "hvg") {
  total <- matrix_stats(counts, col_stats = "mean", threads = threads)$col_stats["mean", ] * nrow(counts)
  normalized <- multiply_cols(counts, 1e4 / total)
  if (job %in% c("nlh", "nlh_gzip")) {                          # seurat
    stats <- matrix_stats(normalized, row_stats = "variance", threads = threads)$row_stats
    mean <- pmax(stats["mean", ], 1e-12)
    dispersion <- stats["variance", ] / mean
    dispersion <- log(ifelse(dispersion == 0, NA, dispersion))
    bin <- cut(log1p(mean), 20, labels = FALSE)
    center <- ave(dispersion, bin, FUN = function(x) mean(x, na.rm = TRUE))
    spread <- ave(dispersion, bin, FUN = function(x) sd(x, na.rm = TRUE))
    alone <- is.na(spread); spread[alone] <- center[alone]; center[alone] <- 0
    score <- (dispersion - center) / spread
    chosen <- !is.na(score) & score >= sort(score, decreasing = TRUE)[n_top]
  }
  compressed <- if (job == "nlh_gzip") list(gzip_level = 4L) else list()
  logged <- convert_matrix_type(log1p(normalized), "float")
  invisible(do.call(write_matrix_anndata_hdf5, c(list(logged, output), compressed)))
}
writeLines(rownames(counts)[chosen], genes)
cat(sprintf('{"imports": %.3f, "inside": %.3f}\n', imported - started, proc.time()[["elapsed"]] - started))
