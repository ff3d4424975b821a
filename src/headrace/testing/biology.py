"""What simulated cells can be: types, tissues and diseases, with their ontology ids."""

from __future__ import annotations

CELL_TYPES = {
    "B cell": ("CL:0000236", ("MS4A1", "CD79A", "CD79B")),
    "Kupffer cell": ("CL:0000091", ("CD5L", "CLEC4F", "VSIG4", "C1QA")),
    "T cell": ("CL:0000084", ("CD3D", "CD3E", "IL7R", "TRAC")),
    "cardiac muscle cell": ("CL:0000746", ("TNNT2", "MYH6", "MYL2", "ACTC1")),
    "endothelial cell": ("CL:0000115", ("PECAM1", "VWF", "CDH5", "CLDN5")),
    "erythrocyte": ("CL:0000232", ("HBB", "HBA1", "HBA2", "HBB-BS", "HBB-BT", "HBA-A1", "HBA-A2", "ALAS2")),
    "fibroblast": ("CL:0000057", ("COL1A1", "COL1A2", "DCN", "LUM")),
    "hepatocyte": ("CL:0000182", ("ALB", "APOA1", "TTR")),
    "macrophage": ("CL:0000235", ("CD68", "MARCO", "C1QB")),
    "monocyte": ("CL:0000576", ("S100A8", "CD14", "CSF3R")),
    "natural killer cell": ("CL:0000623", ("NKG7", "KLRD1", "PRF1")),
    "pulmonary alveolar type 2 cell": ("CL:0002063", ("SFTPC", "SFTPB", "NAPSA")),
}
"""Id and marker genes (human symbols; mouse ones differ in case) of each simulated cell type."""

TISSUES = {
    "blood": ("UBERON:0000178", "blood", "UBERON:0000178"),
    "bone marrow": ("UBERON:0002371", "bone marrow", "UBERON:0002371"),
    "heart left ventricle": ("UBERON:0002084", "heart", "UBERON:0000948"),
    "liver": ("UBERON:0002107", "liver", "UBERON:0002107"),
    "lung": ("UBERON:0002048", "lung", "UBERON:0002048"),
}
"""Id of each tissue, and the organ it is part of."""

RESIDENTS = {
    "blood": ("T cell", "B cell", "monocyte", "natural killer cell", "erythrocyte"),
    "bone marrow": ("T cell", "B cell", "monocyte", "erythrocyte", "macrophage"),
    "heart left ventricle": ("cardiac muscle cell", "fibroblast", "endothelial cell", "macrophage"),
    "liver": ("hepatocyte", "Kupffer cell", "endothelial cell", "T cell", "B cell"),
    "lung": ("pulmonary alveolar type 2 cell", "fibroblast", "endothelial cell", "macrophage", "T cell"),
}
DISEASES = {
    "normal": "PATO:0000461",
    "COVID-19": "MONDO:0100096",
    "lung adenocarcinoma": "MONDO:0005061",
    "type 2 diabetes mellitus": "MONDO:0005148",
}
BETWEEN_TERMS = " || "
