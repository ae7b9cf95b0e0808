//! `spec` of a `kind: SiteSet`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PartialTemplate;

/// A template, values for every site, and the list of sites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteSetSpec {
    /// What each site looks like. `$(code)`, `$(code.lower)` and `$(KEY)` for any key of the site's
    /// entry are replaced in strings and keys; `$$(` stands for `$(`.
    pub template: SiteTemplate,
    /// Values for sites that don't give their own.
    #[serde(default)]
    pub values: BTreeMap<String, Variable>,
    /// The sites.
    #[schemars(length(max = 10000))]
    pub sites: Vec<SiteItem>,
}

/// Metadata and spec of a site with `$(KEY)` in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteTemplate {
    /// Labels; the name is the site's code.
    #[serde(default)]
    pub metadata: Option<TemplateMetadata>,
    /// The site.
    pub spec: PartialTemplate,
}

/// Labels of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateMetadata {
    /// Your own words for the site.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// One site of a set: its code, and a value for each `$(KEY)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteItem {
    /// The site code; the site's identity.
    #[schemars(regex(pattern = "^[A-Z0-9]{3}$"))]
    pub code: String,
    /// What this site has different from the template, by JSON merge patch.
    #[serde(default)]
    pub patch: Option<SitePatch>,
    /// Values for `$(KEY)`.
    #[serde(flatten)]
    pub values: BTreeMap<String, Variable>,
}

/// What one site has different.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SitePatch {
    /// Labels.
    #[serde(default)]
    pub metadata: Option<TemplateMetadata>,
    /// The site.
    #[serde(default)]
    pub spec: Option<PartialTemplate>,
}

/// A value for `$(KEY)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Variable {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// Text.
    Text(String),
}
