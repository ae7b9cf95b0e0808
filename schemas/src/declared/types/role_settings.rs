//! `settings` of role groups whose role has some of its own.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::GroupName;
use crate::role::{CATALOGUE, Role};

/// Settings of a role, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleSettings {
    /// Of a distribution point.
    DistributionPoint(DistributionPointSettings),
    /// Of a role whose settings aren't Stead's business yet.
    Free,
    /// Of a software update point.
    SoftwareUpdatePoint(SoftwareUpdatePointSettings),
}

/// Settings of a distribution point.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DistributionPointSettings {
    /// Folder with the content it serves, below the agent's `contentDir`; default: all of it.
    #[serde(default)]
    pub content: Option<String>,
    /// Groups of distribution points it gets content from, in order of preference.
    #[serde(default)]
    pub pull_from: Vec<PullFrom>,
}

/// A group of distribution points of the same site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PullFrom(pub GroupName);

/// Settings of a software update point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SoftwareUpdatePointSettings {
    /// Where its catalogue comes from.
    #[serde(default)]
    pub sync_from: Option<SyncFrom>,
}

/// Where an update catalogue comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SyncFrom {
    /// The update point of the parent site.
    Parent,
    /// The vendor.
    Upstream,
}

impl RoleSettings {
    /// Reads the settings of a role.
    ///
    /// # Errors
    /// The key that is wrong, where it is one, and why.
    pub fn read(role: Role, settings: Value) -> Result<Self, (Option<String>, String)> {
        match role {
            Role::DistributionPoint => {
                let settings: DistributionPointSettings = read(settings)?;
                let content = settings.content.as_deref().unwrap_or_default();
                if content.starts_with('/') || content.split('/').any(|part| part == "..") {
                    let why = format!("`{content}` isn't a folder below `contentDir`");
                    return Err((Some("content".to_owned()), why));
                }
                Ok(Self::DistributionPoint(settings))
            }
            Role::SoftwareUpdatePoint => read(settings).map(Self::SoftwareUpdatePoint),
            Role::AssetIntelligencePoint
            | Role::Custom
            | Role::Database
            | Role::EndpointProtectionPoint
            | Role::EnrollmentPoint
            | Role::EnrollmentProxyPoint
            | Role::FallbackStatusPoint
            | Role::ManagementPoint
            | Role::ReportingPoint
            | Role::ServiceConnectionPoint
            | Role::SiteServer
            | Role::SmsProvider
            | Role::StateMigrationPoint => Ok(Self::Free),
        }
    }
}

/// The role names as keys of `roles`, each with its help and the schema of its settings: for
/// completion in editors. An editor takes what is named here for the whole of it, so that the
/// schema of all groups is named as well.
pub(super) fn role_members() -> Value {
    let members = CATALOGUE
        .iter()
        .filter(|entry| !matches!(entry.role, Role::Custom | Role::Database | Role::SiteServer))
        .map(|entry| {
            let text = format!("{}.", entry.summary);
            let group = json!({ "$ref": "#/$defs/GroupSpec" });
            let member = match settings_schema(entry.role) {
                Some(settings) => {
                    let own = json!({ "properties": { "settings": settings } });
                    json!({ "description": text, "allOf": [group, own] })
                }
                None => json!({ "description": text, "$ref": group["$ref"] }),
            };
            (entry.name.to_owned(), member)
        });
    Value::Object(members.collect())
}

fn settings_schema(role: Role) -> Option<Value> {
    let generator = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = generator.into_generator();
    let mut schema = match role {
        Role::DistributionPoint => generator.into_root_schema_for::<DistributionPointSettings>(),
        Role::SoftwareUpdatePoint => {
            generator.into_root_schema_for::<SoftwareUpdatePointSettings>()
        }
        _ => return None,
    };
    schema.remove("title");
    Some(schema.to_value())
}

fn read<T: DeserializeOwned>(settings: Value) -> Result<T, (Option<String>, String)> {
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let key = error.path().iter().next().map(ToString::to_string);
        (key, error.inner().to_string())
    })
}
