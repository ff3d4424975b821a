# Makes filter_by_expr.csv: which genes edgeR's filterByExpr keeps, as their number and the md5 of their ids.
# Rscript make_filter_by_expr.R ../../../shared/data/bulk    (Debian r-bioc-edger 3.40.2)
suppressMessages(library(edgeR))
folder <- commandArgs(TRUE)[1]
groups <- c(airway = "dex", pasilla = "condition", cheung = "gender", marioni = "tissue", fission = "strain",
            mammary_gse60450 = "CellTypeStatus", li_prostate = "treatment")
rows <- list()
note <- function(set, variant, ids) {
  file <- tempfile(); con <- file(file, "wb"); writeBin(charToRaw(paste0(ids, "\n", collapse = "")), con); close(con)
  rows[[length(rows) + 1]] <<- data.frame(set = set, variant = variant, n = length(ids), md5 = unname(tools::md5sum(file)))
}
for (set in c(names(groups), "gtex_lung_chr21", "sultan")) {
  counts <- as.matrix(read.csv(file.path(folder, paste0(set, ".counts.csv.gz")), row.names = 1, check.names = FALSE))
  keep <- function(variant, ...) note(set, variant, rownames(counts)[suppressMessages(filterByExpr(...))])
  keep("plain", counts)
  keep("low", counts, min.count = 3, min.total.count = 5)
  keep("large", counts, large.n = 2, min.prop = 0.5)
  tmm <- colSums(counts) * calcNormFactors(counts)
  keep("tmm", counts, lib.size = tmm)
  if (set %in% names(groups)) {
    samples <- read.csv(file.path(folder, paste0(set, ".samples.csv")), row.names = 1)
    group <- samples[colnames(counts), groups[[set]]]
    keep("group", counts, group = group)
    keep("group_tmm", counts, group = group, lib.size = tmm)
  }
}
write.csv(do.call(rbind, rows), "filter_by_expr.csv", row.names = FALSE, quote = FALSE)
