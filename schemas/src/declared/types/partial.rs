//! Parts of a site: the site's own schema with nothing required and `null` allowed.
//!
//! Defaults, templates, patches and sites themselves are merged before they are whole; each may
//! leave anything out. The types only hold the place; `declared::schema` derives what stands there
//! from the schema of [`super::SiteSpec`], so that the two can't differ.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A site's spec that may leave out what defaults say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartialSite(pub Value);

/// A part of a site's spec with `$(KEY)` in strings and keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartialTemplate(pub Value);

impl JsonSchema for PartialSite {
    fn schema_name() -> Cow<'static, str> {
        "PartialSite".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

impl JsonSchema for PartialTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PartialTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}
