//! Who may do what: basic, or bearer tokens as in
//! <https://distribution.github.io/distribution/spec/auth/token/>.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::json;

use super::Shared;
use super::answer::Answer;

#[derive(Clone, Debug, Default)]
pub enum Auth {
    #[default]
    None,
    Basic {
        user: String,
        password: String,
        anonymous_pull: bool,
    },
    Bearer {
        user: String,
        password: String,
        lifetime: Lifetime,
        /// A refresh token, which stands for user and password.
        identity_token: Option<String>,
        anonymous_pull: bool,
        /// What the challenge names instead of the registry's own `/token`.
        realm: Option<String>,
    },
}

impl Auth {
    pub fn basic(user: &str, password: &str) -> Self {
        Auth::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
            anonymous_pull: false,
        }
    }

    pub fn bearer(user: &str, password: &str, lifetime: Lifetime) -> Self {
        Auth::Bearer {
            user: user.to_owned(),
            password: password.to_owned(),
            lifetime,
            identity_token: None,
            anonymous_pull: false,
            realm: None,
        }
    }
}

/// How long a token is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Lifetime {
    #[default]
    Forever,
    /// So many requests; the token does not say so.
    Requests(u32),
}

#[derive(Default)]
pub struct Tokens {
    given: BTreeMap<String, Grant>,
}

struct Grant {
    scopes: Vec<Scope>,
    left: Option<u32>,
}

struct Scope {
    repository: String,
    pull: bool,
    push: bool,
}

/// What a request wants to do.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub repository: Option<&'a str>,
    pub push: bool,
}

impl Wish<'_> {
    fn granted_by(&self, grant: &Grant) -> bool {
        self.repository.is_none_or(|wanted| {
            let mut scopes = grant.scopes.iter();
            scopes.any(|s| s.repository == wanted && if self.push { s.push } else { s.pull })
        })
    }
}

fn is_basic(headers: &HeaderMap, user: &str, password: &str) -> bool {
    let wanted = STANDARD.encode(format!("{user}:{password}"));
    credentials(headers, "Basic").is_some_and(|given| given == wanted)
}

fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let (given, rest) = headers
        .get("Authorization")?
        .to_str()
        .ok()?
        .split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn refused(challenge: &str) -> Box<Answer> {
    let answer = Answer::error(401, "UNAUTHORIZED", "authentication required");
    Box::new(answer.header("WWW-Authenticate", challenge))
}

/// Lets a request pass, or answers it.
pub fn check(shared: &Shared, headers: &HeaderMap, wish: Wish<'_>) -> Result<(), Box<Answer>> {
    let answer = look(shared, headers, wish);
    if shared.options.challenge_at_root && wish.repository.is_some() {
        return answer.map_err(|_| Box::new(Answer::new(401)));
    }
    answer
}

fn look(shared: &Shared, headers: &HeaderMap, wish: Wish<'_>) -> Result<(), Box<Answer>> {
    match &shared.options.auth {
        Auth::None => Ok(()),
        Auth::Basic {
            user,
            password,
            anonymous_pull,
        } => {
            let open = *anonymous_pull && !wish.push && !headers.contains_key("Authorization");
            if open || is_basic(headers, user, password) {
                Ok(())
            } else {
                Err(refused("Basic realm=\"test\""))
            }
        }
        Auth::Bearer { realm, .. } => {
            let failure = match credentials(headers, "Bearer") {
                None => "",
                Some(token) => match spend(shared, token, wish) {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                },
            };
            let realm = realm
                .clone()
                .unwrap_or_else(|| format!("{}/token", shared.origin()));
            let mut challenge = format!("Bearer realm=\"{realm}\",service=\"test-registry\"");
            if let Some(repository) = wish.repository {
                let actions = if wish.push { "pull,push" } else { "pull" };
                write!(challenge, ",scope=\"repository:{repository}:{actions}\"").unwrap();
            }
            if !failure.is_empty() {
                write!(challenge, ",error=\"{failure}\"").unwrap();
            }
            Err(refused(&challenge))
        }
    }
}

/// Whether a token that came along has this right; nothing is used up.
pub fn may(shared: &Shared, headers: &HeaderMap, wish: Wish<'_>) -> bool {
    let Auth::Bearer { .. } = shared.options.auth else {
        return true;
    };
    let tokens = shared.tokens.lock().unwrap();
    credentials(headers, "Bearer")
        .and_then(|token| tokens.given.get(token))
        .is_some_and(|grant| wish.granted_by(grant))
}

fn spend(shared: &Shared, token: &str, wish: Wish<'_>) -> Result<(), &'static str> {
    let mut tokens = shared.tokens.lock().unwrap();
    let grant = tokens.given.get_mut(token).ok_or("invalid_token")?;
    if grant.left == Some(0) {
        return Err("invalid_token");
    }
    if !wish.granted_by(grant) {
        return Err("insufficient_scope");
    }
    grant.left = grant.left.map(|left| left - 1);
    Ok(())
}

/// A token that nobody asked for, with all rights in a repository.
pub fn give(shared: &Shared, repository: &str) -> String {
    let value = format!("given-{}", shared.unique());
    let scope = Scope {
        repository: repository.to_owned(),
        pull: true,
        push: true,
    };
    let grant = Grant {
        scopes: vec![scope],
        left: None,
    };
    let mut tokens = shared.tokens.lock().unwrap();
    tokens.given.insert(value.clone(), grant);
    value
}

/// Answers a request for a token: by GET, or by POST with a form.
pub fn token(
    shared: &Shared,
    headers: &HeaderMap,
    form: bool,
    fields: &[(String, String)],
) -> Answer {
    let Auth::Bearer {
        user,
        password,
        lifetime,
        identity_token,
        anonymous_pull,
        ..
    } = &shared.options.auth
    else {
        return Answer::error(404, "NOT_FOUND", "no tokens here");
    };
    let field = |name: &str| {
        let found = fields.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    };
    let known = if form {
        match field("grant_type") {
            Some("refresh_token") => {
                identity_token.is_some() && field("refresh_token") == identity_token.as_deref()
            }
            Some("password") => {
                field("username") == Some(user) && field("password") == Some(password)
            }
            _ => return Answer::new(400).json(&json!({"error": "unsupported_grant_type"})),
        }
    } else {
        is_basic(headers, user, password)
    };
    let anonymous = !form && *anonymous_pull && !headers.contains_key("Authorization");
    if !known && !anonymous {
        return Answer::error(401, "UNAUTHORIZED", "incorrect username or password");
    }
    let scopes = fields
        .iter()
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' '))
        .filter_map(|scope| {
            let (repository, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
            let wants = |action| actions.split(',').any(|a| a == action);
            Some(Scope {
                repository: repository.to_owned(),
                pull: wants("pull"),
                push: wants("push") && known,
            })
        })
        .collect();
    let token = format!("token-{}", shared.unique());
    let mut left = None;
    match *lifetime {
        Lifetime::Forever => {}
        Lifetime::Requests(n) => left = Some(n),
    }
    let grant = Grant { scopes, left };
    let mut tokens = shared.tokens.lock().unwrap();
    tokens.given.insert(token.clone(), grant);
    let name = if form { "access_token" } else { "token" };
    let mut body = json!({name: token, "expires_in": 300});
    if known && let (Some("true"), Some(identity)) = (field("offline_token"), identity_token) {
        body["refresh_token"] = json!(identity);
    }
    Answer::new(200).json(&body)
}
