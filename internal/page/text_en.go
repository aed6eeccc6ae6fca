package page

import (
	"github.com/cloakroom/cloakroom/internal/web"
)

var english = &text{
	Lang: "en",
	Dir:  "ltr",

	LogIn:          "Log in",
	LoggingIn:      "Logging in…",
	UserName:       "User name or email",
	Password:       "Password",
	Show:           "Show",
	Hide:           "Hide",
	ShowPassword:   "Show password",
	HidePassword:   "Hide password",
	Remember:       "Keep me logged in on this device",
	Or:             "or",
	continueWith:   "Continue with %s",
	continueHosted: "Continue with single sign-on",

	OneTimeCode: "One-time code, if your account has one",

	ConfirmTitle: "Confirm that it is you",
	ChooseTitle:  "Confirm that it is you",
	ChooseBody:   "Choose how.",
	CodeLabel:    "Code",
	RecoveryCode: "Recovery code",
	PushTitle:    "Confirm on your device",
	PushBody:     "We have sent a request to your device. Approve it there.",
	NumberBody:   "We have sent a request to your device. Approve it there, with this number.",
	Confirmed:    "I have approved it",
	Waiting:      "Waiting for your device…",
	SendAgain:    "Send again",
	OtherWay:     "or in another way",
	EnrollTitle:  "Set up a second step",
	EnrollBody:   "Your account needs more than a password. Choose what you want to confirm with from now on.",
	ScanBody:     "Scan this picture with your authenticator app. Then enter the code that the app shows.",
	QRLabel:      "QR code for your authenticator app",
	TypeKey:      "Or type in this key:",
	PhoneNumber:  "Phone number, with the country code",
	EmailAddress: "Email address",
	SendCode:     "Send a code",

	RecoveryTitle: "Keep your recovery code",
	RecoveryBody:  "With it you can log in once if you lose your device. Write it down now: it is not shown again.",
	Saved:         "I have written it down",

	NewPasswordTitle: "Choose a new password",
	NewPasswordBody:  "The old one was right, but it has to be changed now.",
	NewPassword:      "New password",

	factors: map[string]string{
		"otp": "Authenticator app", "sms": "Text message", "voice": "Phone call", "email": "Email",
		"push": "Request to my device", "recovery_code": "Recovery code",
	},
	enterOTP:        "Enter the code that your authenticator app shows.",
	enterRecovery:   "Enter the recovery code that you wrote down. It works once.",
	enterSMS:        "Enter the code that we have sent to %s.",
	enterSMSPlain:   "Enter the code that we have sent to your phone.",
	enterVoice:      "Enter the code that you hear when we call %s.",
	enterVoicePlain: "Enter the code that you hear when we call you.",
	enterEmail:      "Enter the code that we have sent to %s.",
	enterEmailPlain: "Enter the code that we have sent to your email address.",

	LogOutQuestion: "Log out?",
	LoggedInAs:     "You are logged in as",
	LogOut:         "Log out",
	LoggingOut:     "Logging out…",
	StayLoggedIn:   "Stay logged in",
	Everywhere:     "On all my devices",

	Sessions:      "Your sessions",
	SessionsIntro: "These browsers and devices are logged in to your account. End those that you do not know or do not use any more.",
	OnlyHere:      "You are logged in on this device only.",
	ThisDevice:    "This device",
	UnknownDevice: "Unknown device",
	End:           "End",
	Ending:        "Ending…",
	EndOthers:     "End all others",
	FirstSessions: "Back to the first",
	MoreSessions:  "Show more",
	active:        "Active %s",
	loggedIn:      "logged in %s",
	endLabel:      "End %s",

	OtherUser:     "You logged in with another account",
	OtherUserBody: "If you continue, the account from before is logged out in this browser.",
	Before:        "Before",
	Now:           "Now",
	Unnamed:       "An account without a name",
	continueAs:    "Continue as %s",
	continueAsNew: "Continue with the new account",
	Cancel:        "Cancel",

	TryAgain:  "Try again",
	Home:      "Go to the start page",
	Details:   "Details for support",
	What:      "What happened",
	Code:      "Code",
	RequestID: "Request",
	OneMoment: "One moment…",
	Continue:  "Continue",

	Codes:  englishCodes,
	Other:  says{Title: "Something went wrong", Body: "This is our fault, not yours. Please try again in a moment.", in: "This is our fault, not yours. Please try again in %s."},
	waitIn: "You can try again in %s.",
	units: units{
		second: [2]string{"second", "seconds"}, minute: [2]string{"minute", "minutes"}, hour: [2]string{"hour", "hours"},
		day: [2]string{"day", "days"}, gap: " ", past: "%s ago", now: "just now",
	},
}

var englishCodes = map[string]says{
	web.CodeInvalidCredentials: {
		Title: "Wrong user name or password",
		Body:  "Check both and try again. In a password, capital letters matter.",
	},
	WrongCode: {
		Title: "The code is not right",
		Body:  "Check it and try again. A code works once, and only for a short time.",
	},
	Declined: {
		Title: "The request was refused",
		Body:  "It was refused on the other device. If that was not you, change your password.",
	},
	StepUnclear: {
		Title: "That did not work",
		Body:  "Please try again, or choose another way.",
	},
	web.CodeAccountBlocked: {
		Title: "This account is blocked",
		Body:  "Nobody can log in with it at the moment. Please ask support for help.",
	},
	web.CodePasswordBreached: {
		Title: "This password is no longer safe",
		Body:  "It is known from a data breach at another site. Please reset it and log in with a new one.",
	},
	web.CodeAccessDenied: {
		Title: "Access was not granted",
		Body:  "The login was cancelled, or this account is not allowed in here.",
	},
	web.CodeTooManyAttempts: {
		Title: "Too many attempts",
		Body:  "To keep accounts safe, logging in is paused. Please wait a little and try again.",
		in:    "To keep accounts safe, logging in is paused. Please try again in %s.",
	},
	web.CodeChallengeRequired: {
		Title: "Please show that you are no robot",
		Body:  "There have been many attempts. Please log in on the app's own page, where you can solve a puzzle.",
		in:    "There have been many attempts. Please log in on the app's own page, where you can solve a puzzle, or try again in %s.",
	},
	web.CodeProviderUnavailable: {
		Title: "The login service does not answer",
		Body:  "Your account is fine. Please try again in a moment.",
		in:    "Your account is fine. Please try again in %s.",
	},
	web.CodeStoreUnavailable: {
		Title: "We cannot look you up right now",
		Body:  "You are not logged out. Please try again in a moment.",
		in:    "You are not logged out. Please try again in %s.",
	},
	web.CodeInvalidRequest: {
		Title: "That did not work",
		Body:  "We could not read what the page sent. Please go back and try again.",
	},
	web.CodeLoginFailed: {
		Title: "The login did not succeed",
		Body:  "Nothing was changed. Please start again.",
	},
	web.CodeLoginExpired: {
		Title: "The login took too long",
		Body:  "To keep accounts safe, a login has to be finished within a few minutes. Please start again.",
	},
	web.CodeCrossOrigin: {
		Title: "This came from another site",
		Body:  "To keep you safe, nothing was done. If you meant it, please do it again from here.",
	},
	// The operator's API answers programs; these are for who opens it in a browser.
	web.CodeVerifyToken: {Title: "This site is not set up correctly", Body: "The proxy in front of it does not present its token."},
	web.CodeTokenRequired: {
		Title: "This is for the operator", Body: "Send the admin token as a bearer token.",
	},
	web.CodeAPIClosed: {
		Title: "The operator's API is closed", Body: "The configuration has no admin token.",
	},
	web.CodeChoiceRequired: {
		Title: "Say which", Body: "Name a session, a person, or all of them.",
	},
	web.CodeReplicasDisagree: {
		Title: "Not all processes have the same keys", Body: "Roll out the keys everywhere first.",
	},
	web.CodeInvalidLogout: {
		Title: "This logout is not right",
		Body:  "It is for login services, and this one could not be believed. Nothing was changed.",
	},
	web.CodeInvalidReturnTo: {
		Title: "This link is not right",
		Body:  "It would lead away from this site, so it was not followed.",
	},
	web.CodeSessionRequired: {
		Title: "Please log in",
		Body:  "This page is for people who are logged in.",
		Note:  true,
	},
	web.CodeSessionEnded: {
		Title: "You are logged out",
		Body:  "Your session has ended. Please log in again to go on.",
		Note:  true,
	},
	web.CodeSessionReplaced: {
		Title: "You have logged in again",
		Body:  "This page still belonged to the earlier login. Please try again.",
	},
	web.CodeStepUpRequired: {
		Title: "Please confirm that it is you",
		Body:  "This needs a fresh login.",
		Note:  true,
	},
	web.CodeNotFound: {
		Title: "There is nothing here",
		Body:  "The address may be mistyped, or the page has moved.",
	},
	web.CodeInvalidPath: {
		Title: "This address is not right",
		Body:  "It can be read in more than one way, so it was not followed.",
	},
	web.CodeMethodNotAllowed: {
		Title: "This cannot be done here",
		Body:  "The page asked for something that this address does not do.",
	},
	web.CodeTooLarge: {
		Title: "That was too much",
		Body:  "What the page sent is larger than what is taken here.",
	},
	web.CodeUnsupportedType: {
		Title: "That did not work",
		Body:  "The page sent something of a kind that is not taken here.",
	},
	web.CodeWrongHost: {
		Title: "There is no site at this address",
		Body:  "The server does not know this host name.",
	},
	web.CodeHTTPSRequired: {
		Title: "This site needs a secure connection",
		Body:  "Please open it with https.",
	},
	web.CodeUpstreamUnreachable: {
		Title: "This part of the site cannot be reached",
		Body:  "The trouble is on our side. Please try again in a moment.",
		in:    "The trouble is on our side. Please try again in %s.",
	},
	web.CodeUpstreamTimeout: {
		Title: "This is taking too long",
		Body:  "The site did not answer in time. Please try again in a moment.",
		in:    "The site did not answer in time. Please try again in %s.",
	},
	web.CodePrefetch: {
		Title: "Please open this page yourself",
		Body:  "A login is not started ahead of time.",
	},
}
