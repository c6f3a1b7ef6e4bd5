import { extensions, util } from '@aws-appsync/utils';

/**
 * What a caller needs for each subscription.
 *
 * - scope: the scope that the access token must have
 * - open: an API key is enough
 * - staff: only staff may subscribe
 * - own: the updates have a userId, and users get only updates with their own id
 *
 * @type {Record<string, { scope: string, open?: boolean, staff?: boolean, own?: boolean }>}
 */
const RULES = {
  sessionChanged: { scope: 'sessions:read', own: true },
  stationChanged: { scope: 'stations:read', open: true },
  stationProgress: { scope: 'sessions:read' },
  walletChanged: { scope: 'billing:read', own: true },
  swapStationChanged: { scope: 'telemetry:read' },
  operatorAlert: { scope: 'operations:read', staff: true },
};

/**
 * Refuses the subscription if the caller may not have it.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function request(ctx) {
  const rule = RULES[ctx.info.fieldName];
  const claims = claimsOf(ctx);
  if (!rule) {
    util.error(`no rule says who may subscribe to ${ctx.info.fieldName}`, 'ForbiddenError');
  }
  if (!claims && !rule.open) {
    util.error('sign in to subscribe to this', 'ForbiddenError');
  }
  if (claims) {
    check(rule, claims, ctx.arguments.userId);
  }
  return { payload: null };
}

/**
 * Limits users to their own updates, and everybody to those that match the arguments.
 *
 * The filter of a user repeats the arguments, because AWS does not say whether AppSync still compares them if there is
 * a filter. Without a filter, AppSync would compare the updates with an argument that is null, and send nothing. But
 * null means the same as an argument that is left out, as elsewhere in the API.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function response(ctx) {
  const claims = claimsOf(ctx);
  if (claims && RULES[ctx.info.fieldName].own) {
    const staff = isStaff(claims);
    const names = Object.keys(ctx.arguments);
    const given = names.filter((name) => ctx.arguments[name] !== null && (staff || name !== 'userId'));
    const filters = given.map((name) => equal(name, ctx.arguments[name]));
    if (!staff) {
      filters.push(equal('userId', claims.sub));
    } else if (filters.length === 0) {
      filters.push({ fieldName: 'userId', operator: 'ne', value: '' }); // everything
    }
    if (!staff || given.length < names.length) {
      extensions.setSubscriptionFilter({ filterGroup: [{ filters }] });
    }
  }
  return null;
}

/**
 * Raises an error unless the claims of a token satisfy a rule.
 *
 * @param {{ scope: string, staff?: boolean, own?: boolean }} rule
 * @param {Record<string, any>} claims
 * @param {string | null | undefined} userId the argument of this name
 */
function check(rule, claims, userId) {
  if (claims.token_use !== 'access') {
    util.error('subscribe with an access token', 'ForbiddenError');
  }
  const scopes = (claims.scope ?? '').split(' ');
  if (!scopes.includes(`evoke/${rule.scope}`)) {
    util.error(`the access token lacks the scope ${rule.scope}`, 'ForbiddenError');
  }
  if (rule.staff && !isStaff(claims)) {
    util.error('only staff may subscribe to this', 'ForbiddenError');
  }
  if (rule.own && userId && userId !== claims.sub && !isStaff(claims)) {
    util.error('only staff may subscribe to what belongs to another user', 'ForbiddenError');
  }
}

/**
 * Returns the claims of the caller's token, or null if the caller has only an API key.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 * @returns {Record<string, any> | null}
 */
function claimsOf(ctx) {
  const identity = /** @type {import('@aws-appsync/utils').AppSyncIdentityCognito | null} */ (ctx.identity);
  return identity?.claims ?? null;
}

/**
 * Returns whether a user is staff. The names of groups are compared whole.
 *
 * @param {Record<string, any>} claims
 */
function isStaff(claims) {
  const groups = claims['cognito:groups'] ?? [];
  return groups.includes('ADMIN') || groups.includes('TECH_SUPPORT');
}

/**
 * Returns a filter of updates in which a field has this value.
 *
 * @param {string} fieldName
 * @param {string} value
 * @returns {{ fieldName: string, operator: 'eq' | 'ne', value: string }}
 */
function equal(fieldName, value) {
  return { fieldName, operator: 'eq', value };
}
